"""gunicorn as it is deployed: connections, shutdown, TLS to Redis."""

import http.client
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from itertools import count
from urllib.parse import urlsplit

import pytest
from redis import Redis
from redis.exceptions import RedisError

from coupon_service.web.gunicorn_worker import SILENCE
from tests.load import Client, ask_all
from tests.processes import HOST, PATIENCE, Process, free_port, gunicorn, wait_until
from tests.state import KEYS, many_issued

TOKEN = "secret"
#: Clients at a time, and for how long; and how often the API is restarted under load.
CLIENTS = 100
LOAD_SECONDS = float(os.environ.get("LOAD_SECONDS") or 3)
RESTARTS = int(os.environ.get("RESTARTS") or 1)


@pytest.fixture
def api(own_server, launch, tmp_path):
    process, url = gunicorn(
        own_server.url, tmp_path / "web.log", WEB_CONCURRENCY="1", COUPON_ADMIN_TOKEN=TOKEN
    )
    launch(process)
    return process, url


def test_connection_that_says_nothing_more_is_closed(api):
    _, url = api
    silent, half = (
        socket.create_connection((HOST, urlsplit(url).port), timeout=4 * SILENCE) for _ in range(2)
    )
    with silent, half:
        half.sendall(b"POST / HTTP/1.1\r\nHost: a\r\n")
        assert silent.makefile("rb").read() == b""
        assert half.makefile("rb").read().startswith(b"HTTP/1.1 400 Bad Request\r\n")


@pytest.mark.parametrize("delay", [0, 0.02, 0.05])
def test_sigterm_while_the_processes_start_ends_them_as_soon(own_server, launch, tmp_path, delay):
    process, _ = gunicorn(own_server.url, tmp_path / "web.log")
    launch(process)
    time.sleep(delay)  # the processes are at different places of their start
    os.killpg(process.pid, signal.SIGTERM)
    # A process that missed the signal would be killed after gunicorn's graceful timeout of 30 s.
    assert process.wait(seconds=25) == 0, process.output()


def test_full_pool_of_connections_is_no_outage(own_server, launch, tmp_path):
    """Many more clients than connections to Redis, which do all that clients do."""
    process, url = gunicorn(
        own_server.url, tmp_path / "web.log", WEB_CONCURRENCY="1", COUPON_ADMIN_TOKEN=TOKEN,
        COUPON_REDIS_CONNECTIONS=str(CLIENTS // 10),
    )
    launch(process)
    Client(url).register("A", 10**6, TOKEN)
    authorization = {"Authorization": f"Bearer {TOKEN}"}
    end = time.monotonic() + LOAD_SECONDS

    def everything(number):
        client, statuses = Client(url, timeout=60), Counter()
        for turn in count():
            user = f"{number}-{turn}"
            for method, path, body, headers in (
                ("GET", "/A", None, {}),
                ("POST", "/request", {"couponId": "A", "userId": user}, {}),
                ("GET", f"/A/users/{user}", None, {}),
                ("GET", "", None, authorization),
                ("DELETE", f"/A/users/{user}", None, authorization),
            ):
                statuses[client.call(method, path, body, **headers)[0]] += 1
            if time.monotonic() > end:
                return statuses

    with ThreadPoolExecutor(CLIENTS) as pool:
        statuses = sum(pool.map(everything, range(CLIENTS)), Counter())
    print(statuses)
    assert set(statuses) == {200} and statuses[200] >= 5 * CLIENTS


def test_sigterm_ends_kept_connections_after_their_answer(api):
    process, url = api
    busy, idle = Client(url), Client(url)
    busy.register("A", 1, TOKEN)
    idle.call("GET", "/A")
    process.signal(signal.SIGTERM)
    statuses = []
    try:
        while True:
            statuses.append(busy.call("GET", "/A")[0])
    except OSError:
        pass
    assert set(statuses) <= {200}
    assert process.wait(3 * SILENCE) == 0


def test_preloaded_application_serves_many_at_once(own_server, launch, tmp_path):
    """Its locks are made before the processes are: they must be those that gevent knows."""
    process, url = gunicorn(
        own_server.url, tmp_path / "web.log", WEB_CONCURRENCY="1", GUNICORN_CMD_ARGS="--preload",
    )
    launch(process)
    Client(url).register("A", 400)
    answers = ask_all(url, "A", [f"u{number}" for number in range(400)], connections=20)
    assert {answer.status for answer in answers} == {200}
    assert "MonkeyPatchWarning" not in process.output()


def test_client_that_keeps_its_connections_loses_no_request_in_restarts(
    own_server, launch, tmp_path
):
    """Not one request is answered by a closed connection: the client was told before."""
    process, url = gunicorn(own_server.url, tmp_path / "web.log", WEB_CONCURRENCY="2")
    launch(process)
    Client(url).register("A", 10**6)
    done, answered, lost = threading.Event(), [0] * 8, [0] * 8

    def ask(number):
        client = Client(url, timeout=PATIENCE)
        while not done.is_set():
            try:
                status, _, _ = client.call("GET", "/A")
                asked = client.ask("A", f"{number}-{answered[number]}")
                answered[number] += (status, asked.status) == (200, 200)
            except (OSError, http.client.HTTPException):
                lost[number] += 1

    with ThreadPoolExecutor(8) as pool:
        clients = [pool.submit(ask, number) for number in range(8)]
        try:
            for restart in range(RESTARTS):
                process.signal(signal.SIGHUP)
                wait_until(
                    lambda: process.output().count("Worker exiting") == 2 * (restart + 1),
                    "the old processes to end",
                )
            wait_until(lambda: min(answered) > 10, "every client to be answered")
        finally:
            done.set()
        for client in clients:
            client.result()
    print(answered)
    assert lost == [0] * 8
    assert "AssertionError" not in process.output()
    requested = int(own_server.client().get(KEYS.requested("A")))
    assert requested == sum(answered)


ISSUED = 40_000


@pytest.mark.long
def test_slow_reader_of_an_export_gets_all_of_it(own_server, api, tmp_path):
    _, url = api
    client = own_server.client()
    # More bytes than the buffers of both sides have room for.
    many_issued(client, ISSUED, width=100)
    with socket.socket() as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
        connection.connect((HOST, urlsplit(url).port))
        connection.sendall(
            b"GET /api/coupons/A/issuances?format=csv HTTP/1.1\r\nHost: a\r\n"
            b"Authorization: Bearer secret\r\nConnection: close\r\n\r\n"
        )
        received = connection.recv(100)
        time.sleep(SILENCE + 1)
        while part := connection.recv(1 << 20):
            received += part
    assert received.endswith(b"\r\n0\r\n\r\n")
    assert received.count(b"\r\nA,u") + received.count(b"\nA,u") >= ISSUED


def test_head_of_an_export_has_no_body(own_server, api):
    _, url = api
    many_issued(own_server.client(), 10)
    with socket.create_connection((HOST, urlsplit(url).port)) as connection:
        connection.sendall(
            b"HEAD /api/coupons/A/issuances?format=csv HTTP/1.1\r\nHost: a\r\n"
            b"Authorization: Bearer secret\r\nConnection: close\r\n\r\n"
        )
        head, _, body = connection.makefile("rb").read().partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200 ") and b"text/csv" in head
    assert body == b""


@pytest.mark.parametrize("path", ["/api/coupons/request", "/api/coupons/register"])
def test_body_that_ends_early_is_400(api, path):
    process, url = api
    with socket.create_connection((HOST, urlsplit(url).port)) as connection:
        connection.sendall(
            f"POST {path} HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\n"
            f"Authorization: Bearer {TOKEN}\r\n"
            'Content-Length: 99\r\n\r\n{"couponId":'.encode()
        )
        connection.shutdown(socket.SHUT_WR)
        answer = connection.makefile("rb").read()
    assert answer.startswith(b"HTTP/1.1 400 ")
    assert b'"code":"bad_request"' in answer
    assert "Traceback" not in process.output()


@pytest.mark.parametrize(
    "command", [["-m", "gunicorn", "wsgi:app"], ["worker.py"]], ids=["gunicorn", "worker"]
)
@pytest.mark.parametrize(
    "name, value",
    [("COUPON_WORKER_BATCH", "0"), ("REDIS_URL", "localhost:6379"),
     ("REDIS_URL", "redis://localhost:6379/x"), ("COUPON_CORS_ORIGINS", "https://shop.example/")],
)
def test_wrong_setting_is_one_line_and_nothing_starts(launch, tmp_path, name, value, command):
    assert_not_started(launch, tmp_path, name, value, command)


def test_wrong_setting_of_gunicorn_is_one_line_and_nothing_starts(launch, tmp_path):
    for name, value in (("WEB_CONCURRENCY", "0"), ("PORT", "99999")):
        assert_not_started(launch, tmp_path, name, value, ["-m", "gunicorn", "wsgi:app"])
        (tmp_path / "log").unlink()


def assert_not_started(launch, tmp_path, name, value, command):
    process = launch(Process(
        [sys.executable, *command], tmp_path / "log", **{"PORT": str(free_port()), name: value}
    ).start())
    assert process.wait() == 1
    [line] = process.output().splitlines()
    assert name in line


def test_log_lines_have_time_level_and_process(own_server, api, tmp_path):
    process, url = api
    own_server.client().set(KEYS.coupon("A"), "not a hash")
    assert Client(url).call("GET", "/A")[0] == 500
    [line] = [line for line in process.output().splitlines() if "corrupt" in line]
    assert re.fullmatch(
        r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3} ERROR pid=\d+ the stored data of A is corrupt "
        r"error=.*WRONGTYPE.*", line,
    )
    assert "Traceback" not in process.output()


@pytest.fixture
def tls_server(launch, tmp_path):
    """A server with a certificate that it has signed itself, as Heroku's is."""
    program = shutil.which("redis-server")
    if not program and not os.environ.get("CI"):
        pytest.skip("redis-server is not installed; the server that comes along speaks no TLS")
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=redis",
         "-keyout", tmp_path / "key.pem", "-out", tmp_path / "cert.pem"],
        check=True, capture_output=True,
    )
    port = free_port()
    launch(Process(
        [program, "--port", "0", "--tls-port", str(port), "--tls-cert-file", "cert.pem",
         "--tls-key-file", "key.pem", "--tls-auth-clients", "no", "--save", "",
         "--appendonly", "yes"], tmp_path / "redis.log", tmp_path,
    ).start())
    url = f"rediss://{HOST}:{port}/0"
    client = Redis.from_url(url, ssl_cert_reqs="none")

    def answers():
        with suppress(RedisError):
            return client.ping()

    wait_until(answers, "the server to answer")
    return url, client


def test_coupons_are_issued_over_tls(tls_server, launch, tmp_path):
    url, client = tls_server
    launch(Process(
        [sys.executable, "worker.py"], tmp_path / "worker.log", REDIS_URL=url,
        COUPON_REDIS_VERIFY="false",
    ).start())
    process, api_url = gunicorn(url, tmp_path / "web.log", COUPON_REDIS_VERIFY="false")
    launch(process)
    users = Client(api_url)
    users.register("A", 1)
    assert users.ask("A", "u").status == 200
    wait_until(lambda: client.exists(KEYS.user("A", "u")), "the worker to issue")
