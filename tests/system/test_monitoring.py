"""Metrics of real processes: none of their answers is counted twice or not at all."""

import os
import signal
import sys
import time
import urllib.request
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tests.exposition import Samples
from tests.load import Client, ask_all
from tests.processes import HOST, Process, free_port, gunicorn, listens, wait_until
from tests.state import PARTITIONS
from tests.system import faults

REQUESTS = "coupon_http_requests_total"
REQUEST, STATUS = "/api/coupons/request", "/api/coupons/<coupon_id:coupon_id>"
PROCESSES = 2


def scrape(url):
    with urllib.request.urlopen(f"http://{urlsplit(url).netloc}/metrics") as answer:
        return Samples(answer.read().decode())


def children(process):
    path = Path(f"/proc/{process.pid}/task/{process.pid}/children")
    return {int(pid) for pid in path.read_text().split()}


@pytest.fixture(params=["", "--preload"])
def api(request, own_server, launch, tmp_path):
    process, url = gunicorn(
        own_server.url, tmp_path / "web.log", WEB_CONCURRENCY=str(PROCESSES),
        GUNICORN_CMD_ARGS=request.param,
    )
    launch(process)
    return process, url


def test_answers_of_all_processes_are_counted_once_through_restarts_and_kills(api):
    process, url = api
    Client(url).register("A", 100)
    asked = 0

    def ask(name):
        nonlocal asked
        answers = ask_all(url, "A", [f"{name}-{number}" for number in range(60)], connections=8)
        asked += len(answers)
        client = Client(url)
        for method, path in (("GET", "/A"), ("GET", "/NONE"), ("POST", "/request")):
            client.call(method, path)
        client.close()
        # By whichever process.
        for _ in range(2 * PROCESSES):
            samples = scrape(url)
            assert samples.sum(REQUESTS, route=REQUEST, method="POST") == asked + rounds
            assert samples.sum("coupon_http_request_seconds_count", route=REQUEST) == asked + rounds

    for rounds, step in enumerate(("start", "restart", "kill", "restart again"), start=1):
        before = children(process)
        if step.startswith("restart"):
            process.signal(signal.SIGHUP)
            wait_until(lambda: not children(process) & before, "the old processes to end")
        elif step == "kill":
            killed = min(before)
            os.kill(killed, signal.SIGKILL)
            wait_until(lambda: killed not in children(process), "the process to end")
        wait_until(lambda: len(children(process)) == PROCESSES, "all processes to run")
        ask(step)
    samples = scrape(url)
    assert samples.sum(REQUESTS, route=REQUEST, status="200") == 100
    assert samples.sum(REQUESTS, route=REQUEST, status="400") == asked - 100 + rounds
    assert samples.sum(REQUESTS, route=STATUS, status="200") == rounds
    assert samples.sum(REQUESTS, route=STATUS, status="404") == rounds


def test_flask_run_counts_its_answers(own_server, launch, tmp_path):
    port = free_port()
    launch(Process(
        [sys.executable, "-m", "flask", "run", "--port", str(port)], tmp_path / "web.log",
        REDIS_URL=own_server.url,
    ).start())
    wait_until(lambda: listens(port), "flask run to listen")
    url = f"http://{HOST}:{port}/api/coupons"
    Client(url).register("A", 5)
    ask_all(url, "A", [f"u{number}" for number in range(20)], connections=4)
    samples = scrape(url)
    assert samples.all(REQUESTS, route=REQUEST, status="200") == [5]
    assert samples.all(REQUESTS, route=REQUEST, status="400") == [15]


def test_scrape_of_a_redis_that_hangs_ends_soon_and_the_next_ones_at_once(
    own_server, launch, tmp_path
):
    process, url = gunicorn(own_server.url, tmp_path / "web.log", WEB_CONCURRENCY="1")
    launch(process)
    assert scrape(url).all("coupon_redis_up") == [1] * PARTITIONS

    def seconds():
        started = time.monotonic()
        samples = scrape(url)
        assert samples.all("coupon_redis_up") == [0] * PARTITIONS
        assert samples.sum(REQUESTS, route="/metrics") > 0
        return time.monotonic() - started

    with faults.hung(own_server):
        assert seconds() < 4
        # One that comes when the breaker lets a probe through takes longer.
        wait_until(lambda: seconds() < 0.5, "a scrape at once", 10)
    wait_until(lambda: scrape(url).all("coupon_redis_up") == [1] * PARTITIONS, "redis to be up")


def test_server_out_of_memory_is_read_and_decisions_are_counted_later(
    own_server, launch, tmp_path
):
    process, url = gunicorn(own_server.url, tmp_path / "web.log", WEB_CONCURRENCY="1")
    launch(process)
    client = own_server.client()
    key = "{0}:coupon-log" if PARTITIONS > 1 else "coupon-log"
    client.xadd(key, {"decision": "issued", "entryId": "1000-0"}, id="1001-0")
    with faults.out_of_memory(own_server):
        samples = scrape(url)
        assert samples.all("coupon_redis_up") == [1] * PARTITIONS
        assert samples.sum("coupon_decision_seconds_count") == 0
    assert scrape(url).sum("coupon_decision_seconds_count") == 1
    assert "waiting for redis" not in process.output()


def test_server_that_does_not_tell_of_consumers_has_no_series_of_workers(
    own_server, launch, tmp_path
):
    own_server.client().execute_command("ACL", "SETUSER", "default", "-xinfo")
    process, url = gunicorn(own_server.url, tmp_path / "web.log", WEB_CONCURRENCY="1")
    launch(process)
    samples = scrape(url)
    assert samples.all("coupon_worker_consumers") == []
    assert samples.all("coupon_backlog_entries") == [0] * PARTITIONS
