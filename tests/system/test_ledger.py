"""Copiers, a worker and the server are killed; what the ledger has is what the log has."""

import os
import random
import re
import signal
import sqlite3
import statistics
import subprocess
import sys
import time
from contextlib import suppress

import pytest

from coupon_service.errors import SoldOut
from coupon_service.installation import Partitions
from coupon_service.ledger.copier import reported
from coupon_service.scripts import Registration
from tests import postgres
from tests.postgres import Postgres
from tests.processes import PATIENCE, ROOT, Process, wait_until, worker
from tests.sinks import last_id, lines_of, open_sink
from tests.state import (
    KEYS,
    PARTITIONS,
    backlog,
    config_with,
    coupons_on,
    decided,
    log_lines,
    partitions_on,
)

#: Decisions under kills, and how often something is killed meanwhile.
DECISIONS = int(os.environ.get("LEDGER_DECISIONS") or 3000)
KILLS = int(os.environ.get("LEDGER_KILLS") or 12)
SEED = int(os.environ.get("LEDGER_SEED") or 1)

#: Requests of the sale whose log is trimmed, and seconds for which PostgreSQL is down.
SALE = int(os.environ.get("LEDGER_SALE") or 1500)
OUTAGE = float(os.environ.get("LEDGER_OUTAGE") or 1)

needs_postgres = pytest.mark.skipif(postgres.MISSING, reason=postgres.REASON)


def copier(server, log, *urls):
    return Process(
        [sys.executable, "-m", "flask", "ledger", "follow"], log,
        REDIS_URL=server.url, COUPON_LEDGER=",".join(urls),
    )


def flask_ledger(server, urls, *arguments):
    return subprocess.run(
        [sys.executable, "-m", "flask", "ledger", *arguments], cwd=ROOT, text=True,
        capture_output=True,
        env={**os.environ, "REDIS_URL": server.url, "COUPON_LEDGER": ",".join(urls)},
    )


def admit(server, coupon_id, count, quantity):
    """Let `count` users request a coupon of its own."""
    with server.client() as client:
        coupons = coupons_on(client)
        coupons.register(Registration(coupon_id, quantity))
        for number in range(count):
            with suppress(SoldOut):
                coupons.request(coupon_id, f"u{number}", f"r{number}")


def rate(server, coupon_id, count=500):
    """Let 500 users request a coupon; return the decisions a second."""
    started = time.monotonic()
    admit(server, coupon_id, count, count)
    with server.client() as client:
        wait_until(lambda: not backlog(client), "the decisions")
    return count / (time.monotonic() - started)


def last_ids(server):
    with server.client() as client:
        return {
            each.partition: (client.xrevrange(each.keys.log, count=1) or [("0-0",)])[0][0]
            for each in partitions_on(client)
        }


def has_all(server, url):
    sink = open_sink(url)
    try:
        return all(last_id(sink, number) == end for number, end in last_ids(server).items())
    finally:
        sink.close()


def assert_is_the_log(server, urls):
    with Partitions(config_with(redis_url=server.url)).of("A").client as client:
        logs = {
            each.partition: [log_id for log_id, _ in client.xrange(each.keys.log)]
            for each in partitions_on(client)
        }
    for url in urls:
        sink = open_sink(url)
        for partition, ids in logs.items():
            assert [line.log_id for line in lines_of(sink, partition)] == ids
        sink.close()
    verified = flask_ledger(server, urls, "verify")
    assert verified.returncode == 0, verified.stdout + verified.stderr
    assert verified.stdout.count(": 0 differences") == len(urls)


@pytest.fixture
def urls(request, tmp_path):
    urls = [f"file:{tmp_path}/ledger", f"sqlite:///{tmp_path}/ledger.db"]
    if not postgres.MISSING:
        urls.append(request.getfixturevalue("own_postgres").database())
    return urls


@pytest.fixture
def own_postgres():
    server = Postgres()
    server.start()
    yield server
    server.remove()


@pytest.mark.long
def test_each_line_is_copied_once_while_everything_is_killed(
    request, own_server, launch, tmp_path, urls
):
    chance = random.Random(SEED)
    processes = [
        launch(copier(own_server, tmp_path / f"copier{number}.log", *urls).start())
        for number in range(2)
    ]
    workers = [launch(worker(own_server.url, tmp_path / "worker.log", COUPON_WORKER_BATCH="20"))]
    victims = [*processes, *processes, *workers, own_server]
    if len(urls) == 3:
        victims.append(request.getfixturevalue("own_postgres"))
    for kill in range(KILLS):
        admit(own_server, f"C{kill}", DECISIONS // KILLS, DECISIONS // KILLS)
        with own_server.client() as client:
            more = len(decided(client)) + chance.randint(0, DECISIONS // KILLS)
            wait_until(lambda: len(decided(client)) >= more or not backlog(client), "decisions")
        victim = chance.choice(victims)
        victim.stop()
        victim.start()
    with own_server.client() as client:
        wait_until(lambda: len(decided(client)) == DECISIONS // KILLS * KILLS, "all decisions")
    for url in urls:
        wait_until(lambda: has_all(own_server, url), f"{url} to have all\n{processes[0].output()}")
    assert_is_the_log(own_server, urls)


@needs_postgres
@pytest.mark.long
def test_sink_that_is_down_delays_nothing_and_catches_up(
    own_server, own_postgres, launch, tmp_path
):
    file, table = f"file:{tmp_path}/ledger", own_postgres.database()
    follow = launch(copier(own_server, tmp_path / "copier.log", file, table).start())
    launch(worker(own_server.url, tmp_path / "worker.log"))
    admit(own_server, "BEFORE", 100, 100)
    wait_until(lambda: has_all(own_server, table), "the table to be filled")
    before = rate(own_server, "UP")
    own_postgres.stop()
    until, down = time.monotonic() + OUTAGE, []

    def as_fast_as_before():
        down.append(rate(own_server, f"DOWN{len(down)}"))
        # Of the last ones, because other processes of this machine slow each of them.
        return time.monotonic() > until and statistics.median(down[-3:]) > before / 2

    wait_until(as_fast_as_before, f"half of {before:.0f} decisions/s", OUTAGE + PATIENCE)
    print(f"\ndecisions/s before {before:.0f}, in the outage {statistics.median(down):.0f}")
    wait_until(lambda: has_all(own_server, file), "the file to go on")

    def is_said_to_fail():
        status = flask_ledger(own_server, [file, table], "status").stdout
        return re.search(r"postgresql://.* failed: ", status) and "file:" in status

    wait_until(is_said_to_fail, "the status to say so")
    own_postgres.start()
    wait_until(lambda: has_all(own_server, table), "the table to catch up")
    assert_is_the_log(own_server, [file, table])
    failed = re.findall("ledger is not copied (.*) error=", follow.output())
    assert failed and len(failed) == len(set(failed)), follow.output()
    follow.signal(signal.SIGTERM)
    assert follow.wait() == 0


@needs_postgres
@pytest.mark.long
def test_copier_that_waits_for_a_lock_says_so_and_ends_with_a_signal(
    own_server, shared_postgres, launch, tmp_path
):
    import psycopg

    url = shared_postgres.database()
    follow = launch(copier(own_server, tmp_path / "copier.log", url).start())
    admit(own_server, "A", 1, 1)
    wait_until(lambda: has_all(own_server, url), "the ledger to have all")
    with psycopg.connect(url) as connection:
        connection.execute("LOCK TABLE ledger")
        admit(own_server, "A", 1, 2)
        wait_until(lambda: "lock timeout" in follow.output(), "the copier to give up")
        follow.signal(signal.SIGTERM)
        assert follow.wait() == 0  # the lock is still held


def test_log_stays_small_while_the_ledger_has_everything(own_server, launch, tmp_path):
    url, keep, count = f"sqlite:///{tmp_path}/ledger.db", SALE // 20, SALE
    launch(copier(own_server, tmp_path / "copier.log", url).start())
    with own_server.client() as client:
        # What is trimmed before the copier has joined a log is not in the ledger.
        wait_until(lambda: all(map(reported, partitions_on(client))), "the copier to join each log")
    launch(worker(own_server.url, tmp_path / "worker.log", COUPON_LOG_KEEP=str(keep)))
    admit(own_server, "A", count, count - 10)
    with own_server.client() as client:
        wait_until(lambda: not backlog(client), "all decisions")
        wait_until(lambda: has_all(own_server, url), "the ledger to have all")
        log = KEYS.of("A").log
        wait_until(lambda: client.xlen(log) <= keep, "the log to be trimmed")
        assert client.memory_usage(log, samples=0) < 200 * keep + 10_000
        ids = [log_id for log_id, _ in log_lines(client)]
    sink = open_sink(url)
    [partition] = [number for number, keys in enumerate(KEYS.all) if keys.log == log]
    copied = lines_of(sink, partition)
    assert [line.log_id for line in copied][-len(ids):] == ids
    assert sum(line.decision == "issued" for line in copied) == count - 10
    assert flask_ledger(own_server, [url], "verify").returncode == 0
    reconciled = subprocess.run(
        [sys.executable, "-m", "flask", "coupons", "reconcile"], cwd=ROOT, capture_output=True,
        text=True, env={**os.environ, "REDIS_URL": own_server.url},
    )
    assert reconciled.stdout == "1 coupons, 0 disagreements, 0 left\n"


def page():
    return (ROOT / "docs" / "ledger.md").read_text(encoding="utf-8")


@pytest.mark.skipif(PARTITIONS > 1, reason="the example reads the only log")
def test_example_of_a_consumer_group_misses_no_issuance_when_it_is_killed(
    own_server, launch, tmp_path
):
    [example] = re.findall(r"```python\n(.*?)```", page(), re.DOTALL)
    assert len(example.splitlines()) <= 40
    (tmp_path / "mailer.py").write_text(example)
    # Buffered, because print would write the parts of a line one by one, and a kill tear it.
    mailer = launch(Process(
        [sys.executable, "mailer.py"], tmp_path / "mails", tmp_path, REDIS_URL=own_server.url,
        PYTHONUNBUFFERED="",
    ))
    mailer.start()
    with own_server.client() as client:  # what is trimmed before it has a group it never gets
        wait_until(lambda: client.exists(KEYS.log), "the mailer to make its group")
    mailer.stop()
    launch(worker(own_server.url, tmp_path / "worker.log", COUPON_LOG_KEEP="1"))
    for number in range(5):
        mailer.start()
        admit(own_server, f"C{number}", 200, 100)
        wait_until(lambda: f" C{number} " in mailer.output(), "a mail")
        mailer.stop()
    mailer.start()
    with own_server.client() as client:
        wait_until(lambda: not backlog(client), "all decisions")
        wait_until(lambda: client.xlen(KEYS.log) == 1, "every line to be acknowledged and trimmed")
    mails = [line.split() for line in mailer.output().splitlines()]
    assert {tuple(mail[1:]) for mail in mails} == {
        (f"C{number}", f"u{user}") for number in range(5) for user in range(100)
    }
    by_id = {mail[0] for mail in mails}
    assert len(by_id) == 500  # a mail that is sent again has the same id


@pytest.mark.parametrize("kind", ["sqlite", pytest.param("postgresql", marks=needs_postgres)])
def test_queries_of_an_accountant_are_answered(request, own_server, launch, tmp_path, kind):
    url = f"sqlite:///{tmp_path}/ledger.db"
    if kind == "postgresql":
        url = request.getfixturevalue("shared_postgres").database()
    launch(worker(own_server.url, tmp_path / "worker.log"))
    with own_server.client() as client:
        coupons = coupons_on(client)
        coupons.register(Registration("SPRING", 2))
        for user in ("user123", "other"):
            coupons.request("SPRING", user, f"r-{user}")
        wait_until(lambda: not backlog(client), "the decisions")
    assert flask_ledger(own_server, [url], "copy").returncode == 0
    queries = re.findall(r"```sql\n(.*?)```", page(), re.DOTALL)
    answers = [rows(url, tmp_path, query) for query in queries]
    today = time.strftime("%Y-%m-%d", time.gmtime())
    assert [(row[0], row[1]) for row in answers[0]] == [
        ("SPRING", "user123"), ("SPRING", "other"),
    ]
    assert [list(map(str, row)) for row in answers[1]] == [["SPRING", today, "2", "0"]]
    assert [row[1:] for row in answers[2]] == [("issued", "r-user123")]


def rows(url, folder, query):
    if url.startswith("sqlite"):
        with sqlite3.connect(folder / "ledger.db") as connection:
            return connection.execute(query).fetchall()
    import psycopg

    with psycopg.connect(url, options="-c timezone=UTC") as connection:
        return connection.execute(query).fetchall()
