"""The log of real processes: every line is JSON, and an HTTP line leads to its decision."""

import json
import signal
import socket
import sys
from urllib.parse import urlsplit

import pytest

from tests.load import Client
from tests.processes import HOST, Process, gunicorn, wait_until, worker
from tests.state import KEYS, backlog


@pytest.fixture
def service(own_server, launch, tmp_path):
    """Start the API, its access log on, and a worker, with a format of their lines."""

    def start(log_format, **variables):
        variables = {"COUPON_LOG_FORMAT": log_format, "WEB_CONCURRENCY": "1", **variables}
        decider = launch(worker(own_server.url, tmp_path / "worker.log", **variables))
        copier = launch(Process(
            [sys.executable, "-m", "flask", "ledger", "follow"], tmp_path / "ledger.log",
            REDIS_URL=own_server.url, COUPON_LEDGER=f"file:{tmp_path}/ledger/", **variables,
        ).start())
        api, url = gunicorn(
            own_server.url, tmp_path / "web.log", GUNICORN_CMD_ARGS="--access-logfile -",
            **variables,
        )
        return launch(api), url, decider, copier

    return start


def test_every_line_is_json_and_the_access_line_leads_to_the_decision(own_server, service):
    api, url, decider, copier = service("json")
    http = Client(url)
    http.register("A", 1)
    status, headers, accepted = http.call(
        "POST", "/request", {"couponId": "A", "userId": "u"}, **{"X-Request-ID": "mine"}
    )
    assert (status, headers["X-Request-ID"]) == (200, "mine")
    wait_until(lambda: not backlog(own_server.client()), "the decision")
    own_server.client().set(KEYS.coupon("B"), "not a hash")
    assert http.call("GET", "/B")[0] == 500
    with socket.create_connection((HOST, urlsplit(url).port)) as connection:
        connection.sendall(b"not HTTP\r\n\r\n")
        connection.makefile("rb").read()
    api.signal(signal.SIGHUP)  # the loggers are set up again
    wait_until(lambda: "Worker exiting" in api.output(), "the old process to end")
    wait_until(lambda: api.output().count("Booting worker") == 2, "the new process to start")
    wait_until(copier.output, "the ledger to be copied")
    for process in (api, decider, copier):
        process.signal(signal.SIGTERM)
        process.wait()

    web, decisions, copied = (
        [json.loads(line) for line in process.output().splitlines()]
        for process in (api, decider, copier)
    )
    assert {"time", "level", "logger", "process", "message"} <= set.intersection(
        *map(set, web + decisions + copied)
    )
    [line] = [line for line in web if line.get("xRequestId") == "mine"]
    assert (line["logger"], line["status"]) == ("gunicorn.access", "200")
    assert line["request"] == "POST /api/coupons/request HTTP/1.1"
    [decision] = [each for each in decisions if each.get("requestId") == line["requestId"]]
    assert line["requestId"] == accepted["requestId"]
    assert (decision["couponId"], decision["userId"], decision["decision"]) == ("A", "u", "issued")
    assert {line["logger"] for line in web} >= {
        "gunicorn.error", "gunicorn.access", "coupon_service.web.problems",
    }
    assert [line["level"] for line in web if "Invalid request" in line["message"]] == ["ERROR"]
    assert len({line["process"] for line in web}) == 3  # the parent, and one before and after


def test_lines_of_text_stay_as_they_were_and_the_level_holds_for_all(own_server, service):
    api, url, decider, copier = service("text", COUPON_LOG_LEVEL="ERROR")
    http = Client(url)
    http.register("A", 1)
    http.ask("A", "u")
    wait_until(lambda: not backlog(own_server.client()), "the decision")
    own_server.client().set(KEYS.coupon("B"), "not a hash")
    assert http.call("GET", "/B")[0] == 500
    [line] = api.output().splitlines()
    assert " ERROR pid=" in line and "the stored data of B is corrupt" in line
    assert decider.output() == copier.output() == ""
