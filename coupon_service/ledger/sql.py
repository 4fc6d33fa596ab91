"""A ledger in a table, by way of SQLAlchemy Core: SQLite or PostgreSQL."""

import sqlite3
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from time import monotonic, sleep
from typing import Any, TypeVar

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
    cast,
    create_engine,
    event,
    inspect,
    literal,
    not_,
    select,
    tuple_,
)
from sqlalchemy.dialects import postgresql
from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from coupon_service.ledger.errors import SinkError
from coupon_service.ledger.line import GONE_BACK, Line, parts

T = TypeVar("T")

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
        def create() -> None:
            try:
                table.metadata.create_all(self._engine)
            except DBAPIError:
                # Another process has created it since create_all has looked.
                if not inspect(self._engine).has_table(table.name):
                    raise

        self._unless_it_fails(create)

    def last(self, partition: int) -> Line | None:
        """Return the last line of a partition, if there is one."""
        query = select(table).where(table.c.partition == partition)
        rows = list(self._rows(query.order_by(_MS.desc(), _SEQ.desc()).limit(1)))
        return _line(rows[0]) if rows else None

    def append(self, partition: int, lines: list[Line]) -> None:
        """Write lines, but for those that are there; committed when this returns."""
        def write() -> None:
            rows = [self.row(line) for line in lines]
            with self._engine.begin() as connection:
                if not self._is_postgres:
                    connection.exec_driver_sql(_INSERT, rows)
                    return
                cursor: Any = connection.connection.cursor()
                cursor.execute(_CREATE_INCOMING)
                with cursor.copy(_COPY) as incoming:
                    for row in rows:
                        incoming.write_row(row)
                cursor.execute(_INSERT_INCOMING)

        self._unless_it_fails(write)

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
        query = select(table).where(table.c.partition == partition, _ID > tuple_(*parts(after)))
        return [_line(row) for row in self._rows(query.order_by(_MS, _SEQ).limit(size))]

    def coupon_ids(self, partition: int, after: str, size: int) -> list[str]:
        """List up to `size` couponIds of the lines of a partition past `after`, in order."""
        query = select(table.c.coupon_id).where(
            table.c.partition == partition, table.c.coupon_id > after
        ).distinct().order_by(table.c.coupon_id).limit(size)
        return [row.coupon_id for row in self._rows(query)]

    def lost_ranges(self, partition: int) -> list[Any]:
        """Return, of each loss that was accepted, the id before the lines and that of the last."""
        markers = select(table).where(
            table.c.partition == partition, table.c.decision == GONE_BACK
        )
        return [(parts(row.entry_id), (row.log_ms, row.log_seq)) for row in self._rows(markers)]

    def quantity(self, partition: int, coupon_id: str, lost: list[Any]) -> int | None:
        """Return the quantity of a coupon as it was registered or changed last; None if the
        ledger does not have it, or the coupon was deleted since."""
        query = select(table).where(
            *_of(table, partition, coupon_id, lost),
            table.c.decision.in_(("registered", "changed", "deleted")),
        ).order_by(_MS.desc(), _SEQ.desc()).limit(1)
        row = next(iter(self._rows(query)), None)
        return row.quantity if row else None

    def holders(
        self, partition: int, coupon_id: str, lost: list[Any]
    ) -> Iterator[tuple[str, str]]:
        """Yield log id and userId of each issuance that was not cancelled, of a coupon that was not
        deleted since, in order."""
        its = _of(table, partition, coupon_id, lost)
        cancelled = table.alias("cancelled")
        query = select(table.c.log_ms, table.c.log_seq, table.c.user_id).where(
            *its,
            table.c.decision == "issued",
            _ID > tuple_(*parts(self._deleted(its))),
            ~select(literal(1)).where(
                *_of(cancelled, partition, coupon_id, lost),
                cancelled.c.user_id == table.c.user_id,
                cancelled.c.decision == "cancelled",
                cancelled.c.entry_id == cast(_MS, Text) + "-" + cast(_SEQ, Text),
            ).exists(),
        ).order_by(_MS, _SEQ)
        for row in self._rows(query):
            yield f"{row.log_ms}-{row.log_seq}", row.user_id

    def close(self) -> None:
        """Close the connections."""
        self._engine.dispose()

    def _deleted(self, its: list[ColumnElement[bool]]) -> str:
        query = select(table).where(*its, table.c.decision == "deleted")
        rows = list(self._rows(query.order_by(_MS.desc(), _SEQ.desc()).limit(1)))
        return f"{rows[0].log_ms}-{rows[0].log_seq}" if rows else "0-0"

    def _rows(self, query: Any) -> Iterator[Row[Any]]:
        def first() -> Any:
            connection = self._engine.connect()
            return connection, connection.execution_options(yield_per=FETCHED).execute(query)

        connection, result = self._unless_it_fails(first)
        with connection:
            while page := self._unless_it_fails(lambda: result.fetchmany(FETCHED)):
                yield from page

    def _unless_it_fails(self, call: Callable[[], T]) -> T:
        try:
            return call()
        except (SQLAlchemyError, OverflowError, self._driver_error) as error:
            text = str(getattr(error, "orig", None) or error).partition("\n")[0]
            raise SinkError(f"{self.name}: {text}") from error


_MS, _SEQ = table.c.log_ms, table.c.log_seq
_ID: Any = tuple_(_MS, _SEQ)


def _of(
    lines: Any, partition: int, coupon_id: str, lost: list[Any]
) -> list[ColumnElement[bool]]:
    """The conditions of the lines of a coupon, without those that Redis has lost."""
    log_id: Any = tuple_(lines.c.log_ms, lines.c.log_seq)
    return [
        lines.c.partition == partition, lines.c.coupon_id == coupon_id,
        *(not_((log_id > tuple_(*after)) & (log_id <= tuple_(*last))) for after, last in lost),
    ]


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
