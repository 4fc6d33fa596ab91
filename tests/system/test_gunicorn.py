"""gunicorn as it is deployed: connections, shutdown, TLS to Redis."""

import os
import shutil
import signal
import socket
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from urllib.parse import urlsplit

import pytest
from redis import Redis
from redis.exceptions import RedisError

from coupon_service.connection import MAX_CONNECTIONS
from coupon_service.web.gunicorn_worker import SILENCE
from tests.load import Client
from tests.processes import HOST, Process, free_port, gunicorn, wait_until
from tests.state import KEYS


@pytest.fixture
def api(own_server, launch, tmp_path):
    process, url = gunicorn(own_server.url, tmp_path / "web.log", WEB_CONCURRENCY="1")
    launch(process)
    return process, url


@pytest.mark.parametrize(
    "sent, answer",
    [(b"", b""), (b"POST / HTTP/1.1\r\nHost: a\r\n", b"HTTP/1.1 400 Bad Request\r\n")],
)
def test_connection_that_says_nothing_more_is_closed(api, sent, answer):
    _, url = api
    with socket.create_connection((HOST, urlsplit(url).port), timeout=4 * SILENCE) as connection:
        connection.sendall(sent)
        assert connection.makefile("rb").read()[:len(answer) or None] == answer


def test_more_users_may_ask_at_once_than_there_are_connections_to_redis(api):
    _, url = api
    Client(url).register("A", 1)

    def numbers(_):
        client = Client(url)
        return [client.call("GET", "/A")[0] for _ in range(5)]

    with ThreadPoolExecutor(4 * MAX_CONNECTIONS) as pool:
        statuses = pool.map(numbers, range(4 * MAX_CONNECTIONS))
        assert {status for each in statuses for status in each} == {200}


def test_sigterm_ends_kept_connections_after_their_answer(api):
    process, url = api
    busy, idle = Client(url), Client(url)
    busy.register("A", 1)
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
