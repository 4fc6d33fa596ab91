"""A ledger in a table, by way of SQLAlchemy Core: SQLite or PostgreSQL."""

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from time import monotonic, sleep
from typing import Any

from sqlalchemy import (
    URL,
    BigInteger,
    Column,
    ColumnElement,
    DateTime,
    Dialect,
    Index,
    Integer,
    MetaData,
    Row,
    Table,
    Text,
    create_engine,
    event,
    inspect,
    select,
    tuple_,
)
from sqlalchemy.dialects import postgresql
from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from coupon_service.ledger.errors import SinkError
from coupon_service.ledger.line import Line
from coupon_service.stream import parts

#: Rows that are fetched at a time.
FETCHED = 1000
#: Seconds after which a SQLite file that stays locked is given up, when it is connected to.
LOCKED = 5.0
#: Seconds, or milliseconds where the name says so, after which a silent server is given up.
_SILENCE = {"connect_timeout": 5, "keepalives_idle": 5, "keepalives_interval": 2,
            "keepalives_count": 3, "tcp_user_timeout": 10_000}
#: A table that somebody has locked is given up too; instants are read as they were written.
_SESSION = "-c lock_timeout=5s -c timezone=UTC"
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_Instant = DateTime(timezone=True)

table = Table(
    "ledger",
    MetaData(),
    Column("partition", Integer, primary_key=True, autoincrement=False),
    Column("log_ms", BigInteger, primary_key=True, autoincrement=False),
    Column("log_seq", BigInteger, primary_key=True, autoincrement=False),
    Column("decided_at", _Instant, nullable=False),
    Column("decision", Text),
    # In the order that Redis has.
    Column("coupon_id", Text().with_variant(postgresql.TEXT(collation="C"), "postgresql")),
    *(Column(name, Text) for name in ("user_id", "request_id", "entry_id")),
    *(Column(name, BigInteger) for name in ("quantity", "issued", "pending")),
    *(Column(name, _Instant) for name in ("opens_at", "closes_at", "expires_at")),
    # By the primary key too, so that the lines of a user come in their order.
    Index("ledger_coupon_user", "coupon_id", "user_id", "log_ms", "log_seq"),
)
MS, SEQ = table.c.log_ms, table.c.log_seq
_INSTANTS = ("opens_at", "closes_at", "expires_at")
# Rows go to the drivers as they are, because SQLAlchemy would spend as much on the values of each
# as the database does. COPY, which PostgreSQL has for many rows, knows no ON CONFLICT.
_COLUMNS = ", ".join(table.columns.keys())
_INSERT = (
    f"INSERT INTO ledger ({_COLUMNS}) VALUES ({', '.join('?' * len(table.columns))})"
    " ON CONFLICT DO NOTHING"
)
_CREATE_INCOMING = "CREATE TEMP TABLE IF NOT EXISTS incoming (LIKE ledger) ON COMMIT DELETE ROWS"
_COPY = f"COPY incoming ({_COLUMNS}) FROM STDIN"
_INSERT_INCOMING = (
    f"INSERT INTO ledger ({_COLUMNS}) SELECT {_COLUMNS} FROM incoming ON CONFLICT DO NOTHING"
)


class SqlSink:
    """Rows of the table `ledger`, which is created if missing; any number of processes may write.

    Every method raises `SinkError`.
    """

    def __init__(self, url: URL) -> None:
        # What tells one ledger from another; no user and no password.
        kind = url.get_backend_name()
        self.name = URL.create(
            kind, host=url.host, port=url.port, database=url.database
        ).render_as_string()
        self._is_postgres = kind == "postgresql"
        options: dict[str, Any] = {}
        if self._is_postgres:
            options = {**_SILENCE, "options": f"{url.query.get('options', '')} {_SESSION}"}
        self._engine = create_engine(url, pool_pre_ping=True, connect_args=options)
        if not self._is_postgres:
            event.listen(self._engine, "connect", _let_others_read)
        self._instant = _instants(self._engine.dialect)
        dbapi: Any = self._engine.dialect.dbapi
        self._driver_error = dbapi.Error

    def open(self, partition: int) -> None:
        """Make the table if it is missing."""
        with self._failing():
            try:
                table.metadata.create_all(self._engine)
            except DBAPIError:
                # Another process has created it since create_all has looked.
                if not inspect(self._engine).has_table(table.name):
                    raise

    def last(self, partition: int) -> Line | None:
        """Return the last line of a partition, if there is one."""
        row = self.newest(table.c.partition == partition)
        return _line(row) if row else None

    def append(self, partition: int, lines: list[Line]) -> None:
        """Write lines, but for those that are there; committed when this returns."""
        with self._failing(), self._engine.begin() as connection:
            rows = [self.row(line) for line in lines]
            if not self._is_postgres:
                connection.exec_driver_sql(_INSERT, rows)
                return
            cursor: Any = connection.connection.cursor()
            cursor.execute(_CREATE_INCOMING)
            with cursor.copy(_COPY) as incoming:
                for row in rows:
                    incoming.write_row(row)
            cursor.execute(_INSERT_INCOMING)

    def row(self, line: Line) -> tuple[Any, ...]:
        """Return the values of a row, in the order of the columns, which is that of `Line`."""
        ms, sequence = parts(line.log_id)
        rest = line[2:]
        if rest[-3:] != (None, None, None):
            rest = (*rest[:-3], *map(self._instant, rest[-3:]))
        return line.partition, ms, sequence, self._instant(ms), *rest

    def pages(self, partition: int, after: str, size: int) -> Iterator[list[Line]]:
        """Yield the lines of a partition past the id `after`, `size` at a time."""
        while page := self._page(partition, after, size):
            yield page
            after = page[-1].log_id

    def _page(self, partition: int, after: str, size: int) -> list[Line]:
        query = select(table).where(
            table.c.partition == partition, tuple_(MS, SEQ) > tuple_(*parts(after))
        ).order_by(MS, SEQ).limit(size)
        return [_line(row) for row in self.rows(query)]

    def close(self) -> None:
        """Close the connections."""
        self._engine.dispose()

    def newest(self, *conditions: ColumnElement[bool]) -> Row[Any] | None:
        """Return the newest row that meets all conditions, if there is one."""
        query = select(table).where(*conditions).order_by(MS.desc(), SEQ.desc()).limit(1)
        return next(iter(list(self.rows(query))), None)

    def rows(self, query: Any) -> Iterator[Row[Any]]:
        """Yield the rows of a query, fetched a page at a time."""
        with self._failing(), self._engine.connect() as connection:
            yield from connection.execution_options(yield_per=FETCHED).execute(query)

    @contextmanager
    def _failing(self) -> Iterator[None]:
        try:
            yield
        except (SQLAlchemyError, OverflowError, self._driver_error) as error:
            text = str(getattr(error, "orig", None) or error).partition("\n")[0]
            raise SinkError(f"{self.name}: {text}") from error


def _let_others_read(connection: Any, _record: Any) -> None:
    """Let a process read a SQLite file while another writes it.

    It is tried again, because SQLite's own timeout does not cover it: the switch takes the lock of
    a reader and then that of a writer, and fails at once where another connection has the latter.
    """
    deadline = monotonic() + LOCKED
    while True:
        try:
            connection.execute("PRAGMA journal_mode=WAL")
            return
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode != sqlite3.SQLITE_BUSY or monotonic() > deadline:
                raise
        sleep(0.01)


def _instants(dialect: Dialect) -> Callable[[Any], Any]:
    """A function that makes of milliseconds since 1970 what the driver takes. It remembers them,
    because many lines are of the same millisecond."""
    kind: Any = _Instant.dialect_impl(dialect)
    convert = kind.bind_processor(dialect) or (lambda moment: moment)

    @lru_cache(maxsize=1024)
    def instant(ms: int | None) -> Any:
        return None if ms is None else convert(_EPOCH + timedelta(milliseconds=ms))

    return instant


def _line(row: Row[Any]) -> Line:
    found = dict(row._mapping)
    del found["decided_at"]
    log_id = f"{found.pop('log_ms')}-{found.pop('log_seq')}"
    for name in _INSTANTS:
        if found[name] is not None:
            moment = found[name] if found[name].tzinfo else found[name].replace(tzinfo=UTC)
            found[name] = (moment - _EPOCH) // timedelta(milliseconds=1)
    return Line(log_id=log_id, **found)
