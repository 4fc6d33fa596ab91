"""The guarantee, over real processes: gunicorn, workers and a server with AOF."""

import re
import signal
import threading
import time
from collections import Counter
from itertools import count

import pytest

from coupon_service.keys import GROUP
from coupon_service.scripts import Registration, Request
from tests.load import Client, ask_all
from tests.processes import gunicorn, wait_until, worker
from tests.state import KEYS, assert_consistent, backlog, decided, scripts_on
from tests.state import held as held_entries

QUANTITY, USERS, CONNECTIONS = 1000, 5000, 16


def askers():
    """5,000 different users, of whom every fifth asks twice."""
    for number in range(USERS):
        yield f"user{number}"
        if number % 5 == 0:
            yield f"user{number}"


def decisions(client):
    return [(entry["userId"], entry["decision"]) for _, entry in decided(client)]


def drained(client):
    return backlog(client) == 0


class Slowed:
    """Stops a process for most of the time."""

    def __init__(self, process):
        self._process, self._done = process, threading.Event()
        self._thread = threading.Thread(target=self._run)

    def _run(self):
        while not self._done.is_set():
            self._process.signal(signal.SIGSTOP)
            self._done.wait(0.05)
            self._process.signal(signal.SIGCONT)
            self._done.wait(0.005)

    def __enter__(self):
        self._thread.start()

    def __exit__(self, *_):
        self._done.set()
        self._thread.join()


@pytest.mark.parametrize("worker_is", ["stopped", "slowed", "free"])
def test_exactly_the_quantity_is_issued_to_the_first_admitted(
    own_server, launch, tmp_path, worker_is
):
    log = tmp_path / "worker.log"
    api, url = gunicorn(own_server.url, tmp_path / "web.log", WEB_CONCURRENCY="2")
    launch(api)
    Client(url).register("SPRING2025", QUANTITY)
    client = own_server.client()

    if worker_is == "stopped":
        answers = ask_all(url, "SPRING2025", askers(), CONNECTIONS)
        assert backlog(client) == QUANTITY
        launch(worker(own_server.url, log))
    elif worker_is == "slowed":
        process = launch(worker(own_server.url, log, COUPON_WORKER_BATCH="1"))
        with Slowed(process):
            answers = ask_all(url, "SPRING2025", askers(), CONNECTIONS)
    else:
        launch(worker(own_server.url, log))
        answers = ask_all(url, "SPRING2025", askers(), CONNECTIONS)
    wait_until(lambda: drained(client), "the worker to decide everything")

    assert len(answers) == USERS + USERS // 5
    assert {answer.status for answer in answers} == {200, 400, 409}
    accepted = [answer.user for answer in answers if answer.code == "accepted"]
    assert len(set(accepted)) == len(accepted) == QUANTITY
    assert Counter(decisions(client)) == Counter((user, "issued") for user in accepted)
    assert client.get(KEYS.stock("SPRING2025")) == "0"
    assert client.get(KEYS.requested("SPRING2025")) == str(QUANTITY)
    assert client.hlen(KEYS.pending("SPRING2025")) == 0
    assert held_entries(client) == 0
    assert_consistent(client, "SPRING2025")
    refused = Counter(answer.code for answer in answers if answer.status != 200)
    refusals = Client(url).call("GET", "/SPRING2025")[2]["refusals"]
    assert {reason: count for reason, count in refusals.items() if count} == refused


def test_top_up_while_requests_run_is_issued_to_the_last_one(own_server, launch, tmp_path):
    api, url = gunicorn(own_server.url, tmp_path / "web.log")
    launch(api)
    launch(worker(own_server.url, tmp_path / "worker.log"))
    client = own_server.client()
    admin = Client(url)
    admin.register("A", 100)

    def top_up():
        wait_until(lambda: client.get(KEYS.requested("A")) == "100", "100 places to be taken")
        admin.register("A", 150)

    during = threading.Thread(target=top_up)
    during.start()
    answers = []
    for part in count():
        users = [f"user{part}-{number}" for number in range(100)]
        answers += ask_all(url, "A", users, CONNECTIONS)
        if not during.is_alive() and answers[-1].code == "sold_out":
            break
    during.join()
    wait_until(lambda: drained(client), "the worker to decide everything")
    accepted = {answer.user for answer in answers if answer.status == 200}
    assert len(accepted) == 150
    assert {user for user, decision in decisions(client)} == accepted
    assert_consistent(client, "A")


def test_killed_worker_loses_nothing_and_issues_nothing_twice(own_server, launch, tmp_path):
    """Two workers are killed in the middle of batches; a third one goes on."""
    client = own_server.client()
    accepted = [f"user{number}" for number in range(20_000)]
    scripts = scripts_on(client)
    scripts.register([Registration("A", len(accepted))])
    for start in range(0, len(accepted), 500):
        asks = [Request("A", user, f"r-{user}") for user in accepted[start:start + 500]]
        assert scripts.admit(asks) == [["accepted"]] * 500
    settings = {"COUPON_CLAIM_IDLE_MS": "500", "COUPON_WORKER_BATCH": "1000"}
    logs = [tmp_path / f"worker{number}.log" for number in range(3)]

    for log in logs[:2]:
        victim = launch(worker(own_server.url, log, **settings))
        stop_in_the_middle_of_a_batch(victim, client)
        victim.signal(signal.SIGKILL)
        victim.wait()
        assert held(client, victim) > 0
    launch(worker(own_server.url, logs[2], **settings))
    wait_until(lambda: drained(client), "the last worker to decide everything")

    assert Counter(decisions(client)) == Counter((user, "issued") for user in accepted)
    assert_consistent(client, "A")
    logged = re.findall(r"decision=(\w+)", "".join(log.read_text() for log in logs))
    assert set(logged) == {"issued"}


def held(client, process):
    consumers = client.xinfo_consumers(KEYS.requests, GROUP)
    return sum(
        consumer["pending"] for consumer in consumers
        if consumer["name"].endswith(f"-{process.pid}")
    )


def stop_in_the_middle_of_a_batch(process, client):
    """Stop a worker at a moment at which it has read entries and not yet sent them back."""
    decided = client.xlen(KEYS.log)
    wait_until(lambda: client.xlen(KEYS.log) > decided, "the worker to issue")

    def stopped_while_holding():
        process.signal(signal.SIGSTOP)
        looks = set()
        for _ in range(5):  # what it has sent already is executed meanwhile
            time.sleep(0.03)
            looks.add(held(client, process))
        if len(looks) == 1 and looks != {0}:
            return True
        process.signal(signal.SIGCONT)
        return False

    wait_until(stopped_while_holding, "the worker to hold entries")
