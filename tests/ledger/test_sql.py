"""The ledger in a table that many processes find missing, locked or in another time zone."""

import sqlite3
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import pytest

from coupon_service.ledger import sql
from coupon_service.ledger.errors import SinkError
from coupon_service.scripts import Registration
from tests import postgres
from tests.ledger.copying import copy, logged
from tests.processes import PATIENCE
from tests.sinks import SQL_SINKS, last_id, lines_of, open_sink


@pytest.mark.parametrize("sink_url", SQL_SINKS, indirect=True)
def test_table_is_created_by_any_of_many_that_find_it_missing(sink_url):
    sinks = [open_sink(sink_url) for _ in range(8)]
    barrier = Barrier(len(sinks))

    def begin(sink):
        barrier.wait()
        sink.open(0)

    with ThreadPoolExecutor(len(sinks)) as threads:
        list(threads.map(begin, sinks))
    assert [last_id(sink, 0) for sink in sinks] == ["0-0"] * len(sinks)
    for sink in sinks:
        sink.close()


@pytest.fixture
def locked(tmp_path):
    """A SQLite file without a table, which another connection has locked, and that connection."""
    url = f"sqlite:///{tmp_path}/ledger.db"
    other = sqlite3.connect(tmp_path / "ledger.db", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    yield url, other
    other.close()


def test_sqlite_file_that_is_locked_is_waited_for(locked):
    url, other = locked
    sink = open_sink(url)
    with ThreadPoolExecutor(1) as thread:
        opening = thread.submit(sink.open, 0)
        with pytest.raises(TimeoutError):
            opening.result(0.3)
        other.execute("COMMIT")
        opening.result(PATIENCE)
    sink.close()
    assert other.execute("PRAGMA journal_mode").fetchone() == ("wal",)


def test_sqlite_file_that_stays_locked_is_given_up(locked, monkeypatch):
    monkeypatch.setattr(sql, "LOCKED", 0.1)
    sink = open_sink(locked[0])
    with pytest.raises(SinkError, match="database is locked"):
        sink.open(0)
    sink.close()


@pytest.mark.skipif(postgres.MISSING, reason=postgres.REASON)
def test_zone_of_the_database_changes_no_instant(client, coupons, installation, shared_postgres):
    url = shared_postgres.database()
    shared_postgres.execute(url, "ALTER DATABASE %s SET timezone = 'Asia/Seoul'")
    coupons.register(Registration("A", 3, {"closesAt": 253_402_300_799_999}))
    sink = open_sink(url)
    copy(installation, sink)
    assert lines_of(sink, installation.partition) == logged(installation)
    sink.close()
