"""How fast each sink takes lines, beside the driver alone, and what a ledger costs the worker."""

import sqlite3
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from bench.decisions import fill
from bench.load import cpu_us
from bench.peers import Peer, running
from bench.report import Section, ratios, spread, table
from bench.scale import Scale
from bench.services import OURS, services
from coupon_service.config import Config
from coupon_service.ledger.copier import BATCH
from coupon_service.ledger.line import Line, from_log
from coupon_service.ledger.sinks import Sink, open_sinks
from coupon_service.ledger.sql import SqlSink
from coupon_service.ledger.sql import table as ledger_table
from tests import postgres
from tests.processes import Process, wait_until
from tests.sinks import last_id
from tests.state import KEYS

_COLUMNS = ", ".join(column.name for column in ledger_table.columns)


def run(folder: Path, scale: Scale) -> Section:
    """Measure decisions with and without a copier, and then the sinks with the lines of these."""
    [peer] = services(folder, OURS).values()
    spent: dict[str, list[float]] = {"no ledger": [], "a ledger": []}
    with running(peer):
        for number in range(scale.rounds):
            spent["no ledger"].append(_worker_cpu(peer, scale.decisions, ""))
            url = f"sqlite:///{folder}/followed{number}.db"
            spent["a ledger"].append(_worker_cpu(peer, scale.decisions, url))
        entries = peer.client.xrange(KEYS.log, count=scale.decisions)
    rates = _sinks(folder, [from_log(0, *entry) for entry in entries], scale.rounds)
    rows = [
        (name, spread(its), spread(ratios(its, rates[plain]), ".2f"))
        for name, plain in _BESIDE.items() if (its := rates.get(name))
    ]
    costs = list(spent.values())
    text = (
        f"{len(entries):,} lines of a sale, {BATCH:,} in a batch that is on the disk before the "
        "next. executemany: the driver alone, with the same rows; a file is beside that of "
        "SQLite.\n\n" + table(["sink", "lines/s", "to executemany"], rows)
        + "\n\n" + table(["", "worker, CPU µs a decision"],
                         [(name, spread(its, ".1f")) for name, its in spent.items()])
    )
    return Section("The ledger", text, {
        **{
            f"lines/s of {name} to executemany": ratios(rates[name], rates[plain])
            for name, plain in _BESIDE.items() if name in rates and name != plain
        },
        "worker's CPU with a ledger to none": ratios(*reversed(costs)),
    })


#: Each thing that is measured, and the plain way beside it.
_BESIDE = {
    "file": "executemany, SQLite", "sqlite": "executemany, SQLite",
    "executemany, SQLite": "executemany, SQLite",
    "postgresql": "executemany, PostgreSQL", "executemany, PostgreSQL": "executemany, PostgreSQL",
}


def _sinks(folder: Path, lines: list[Line], rounds: int) -> dict[str, list[float]]:
    server = postgres.PROGRAMS and postgres.Postgres().start()
    rates: dict[str, list[float]] = {}
    try:
        for number in range(rounds):
            urls = {"file": f"file:{folder}/files{number}",
                    "sqlite": f"sqlite:///{folder}/sink{number}.db"}
            if server:
                urls["postgresql"] = server.database()
            for name, url in urls.items():
                [sink] = open_sinks(Config(ledger=[url]))
                sink.open(0)
                rates.setdefault(name, []).append(_rate(
                    lambda batch, sink=sink: sink.append(0, batch), lines  # type: ignore[misc]
                ))
                _check(sink, len(lines))
                sink.close()
            rows = _rows(lines, f"sqlite:///{folder}/plain{number}.db")
            with sqlite3.connect(folder / f"plain{number}.db") as connection:
                rates.setdefault("executemany, SQLite", []).append(
                    _executemany(connection, "?", rows)
                )
            if server:
                rates.setdefault("executemany, PostgreSQL", []).append(
                    _plain_postgres(server.database(), lines)
                )
    finally:
        if server:
            server.remove()
    return rates


def _plain_postgres(url: str, lines: list[Line]) -> float:
    import psycopg

    rows = _rows(lines, url)
    with psycopg.connect(url) as connection:
        return _executemany(connection, "%s", rows)


def _rows(lines: list[Line], url: str) -> list[tuple[Any, ...]]:
    """Make the table, and the rows as a sink makes them."""
    [sink] = open_sinks(Config(ledger=[url]))
    assert isinstance(sink, SqlSink)
    sink.open(0)
    rows = list(map(sink.row, lines))
    sink.close()
    return rows


def _executemany(connection: Any, placeholder: str, rows: list[tuple[Any, ...]]) -> float:
    places = ", ".join([placeholder] * len(rows[0]))
    cursor = connection.cursor()

    def insert(batch: Sequence[Any]) -> None:
        cursor.executemany(f"INSERT INTO ledger ({_COLUMNS}) VALUES ({places})", batch)
        connection.commit()

    return _rate(insert, rows)


def _rate(write: Callable[[Sequence[Any]], object], items: Sequence[Any]) -> float:
    """Give the items a second that are written in batches."""
    started = time.perf_counter()
    for start in range(0, len(items), BATCH):
        write(items[start:start + BATCH])
    return len(items) / (time.perf_counter() - started)


def _check(sink: Sink, count: int) -> None:
    assert sum(map(len, sink.pages(0, "0-0", BATCH))) == count


def _worker_cpu(peer: Peer, count: int, url: str) -> float:
    """Let a fresh worker decide a backlog; give its CPU µs for each decision after the first."""
    peer.worker.stop()
    fill(peer, count)
    copier = Process([sys.executable, "-m", "flask", "ledger", "follow"], peer.worker.log,
                     **{**peer.worker.variables, "COUPON_LEDGER": url})
    if url:
        copier.start()
        wait_until(lambda: peer.client.xinfo_groups(KEYS.log), "the copier to start")
    peer.worker.start()
    try:
        wait_until(peer.issued, "the first decision")
        before, first = cpu_us(peer.worker.pid), peer.issued()
        wait_until(lambda: peer.issued() == count, "all decisions")
        spent = (cpu_us(peer.worker.pid) - before) / (count - first)
        if url:
            [sink] = open_sinks(Config(ledger=[url]))
            newest = peer.client.xrevrange(KEYS.log, count=1)[0][0]
            wait_until(lambda: last_id(sink, 0) == newest, "the ledger to have all")
            sink.close()
    finally:
        copier.stop()
    peer.assert_exact()
    return spent
