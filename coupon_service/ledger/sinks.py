"""COUPON_LEDGER names the sinks, to which the copiers write."""

from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

from coupon_service.config import Config
from coupon_service.errors import ConfigError
from coupon_service.ledger.file import FileSink
from coupon_service.ledger.line import Line


class Sink(Protocol):
    """Where lines are kept for good. Every method raises `SinkError`."""

    #: Tells the ledgers of an installation from one another; without a password.
    name: str

    def open(self, partition: int) -> None:
        """Make it ready for lines of a partition; raises `Busy` while another process may write
        them, if only one can."""

    def last(self, partition: int) -> Line | None:
        """Return the last line of a partition, if there is one."""

    def append(self, partition: int, lines: list[Line]) -> None:
        """Keep lines whose ids follow the last one; they are safe when this returns."""

    def pages(self, partition: int, after: str, size: int) -> Iterator[list[Line]]:
        """Yield the lines of a partition past the id `after`, `size` at a time."""

    def close(self) -> None:
        """Let go of what is open."""


def open_sinks(config: Config) -> list[Sink]:
    """Make the sinks of the settings; nothing is read or written before one is used.

    Raises:
        ConfigError: COUPON_LEDGER has something else than URLs of files, SQLite or PostgreSQL, or
            the package that one needs is not installed.
    """
    sinks = [_open(url.strip(), config.partitions) for url in config.ledger if url.strip()]
    if len({sink.name for sink in sinks}) < len(sinks):
        raise ConfigError("COUPON_LEDGER names a ledger twice")
    return sinks


def _open(url: str, partitions: int) -> Sink:
    scheme, _, rest = url.partition(":")
    if scheme == "file" and rest.strip("/"):
        folder = Path(f"/{rest.lstrip('/')}" if rest.startswith("//") else rest)
        return FileSink(folder.absolute(), partitions)
    driver = {"sqlite": "sqlite", "postgres": "postgresql+psycopg",
              "postgresql": "postgresql+psycopg"}.get(scheme)
    if not driver:
        raise _unusable(scheme)
    try:
        from sqlalchemy import make_url
        from sqlalchemy.exc import ArgumentError

        from coupon_service.ledger.sql import SqlSink
    except ModuleNotFoundError:
        raise ConfigError(
            "COUPON_LEDGER needs SQLAlchemy for all but file: pip install 'coupon-service[ledger]'"
        ) from None
    try:
        parsed = make_url(f"{driver}:{rest}")
        if parsed.database:
            return SqlSink(parsed)
    except (ArgumentError, ModuleNotFoundError, ValueError):
        pass
    raise _unusable(scheme)


def _unusable(scheme: str) -> ConfigError:
    # Without the URL, which may have a password.
    return ConfigError(
        f"COUPON_LEDGER: {scheme!r} is no ledger: file:folder/, sqlite:///ledger.db or "
        "postgresql://user:password@host/database, separated by commas"
    )
