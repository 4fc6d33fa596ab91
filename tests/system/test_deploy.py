"""The files of docs/deploy: systemd takes the units, and nginx stands in front of gunicorn."""

import http.client
import json
import os
import re
import signal
import ssl
import subprocess
import sys
from pathlib import Path

import pytest

from tests.processes import HOST, ROOT, Process, free_port, gunicorn, listens, tool, wait_until

DEPLOY = ROOT / "docs" / "deploy"
ASKED = {"couponId": "A", "userId": "u"}


@pytest.mark.parametrize("unit", sorted(file.name for file in DEPLOY.glob("*.service")))
def test_systemd_takes_the_unit(unit, tmp_path):
    verify = [tool("systemd-analyze"), "verify"]
    text = (DEPLOY / unit).read_text()
    # A program that does not exist is an error of the unit too.
    text = text.replace("/opt/coupon-service/.venv/bin/", f"{Path(sys.executable).parent}/")
    text = text.replace("/opt/coupon-service", str(ROOT))
    (tmp_path / unit).write_text(text)
    given = tmp_path / unit.replace("@", "@1")
    if given.name != unit:
        given.symlink_to(tmp_path / unit)
    result = subprocess.run([*verify, given], capture_output=True, text=True)
    about_it = [line for line in (result.stdout + result.stderr).splitlines() if "coupon" in line]
    assert (result.returncode, about_it) == (0, [])
    (tmp_path / unit).write_text(text.replace("Restart=always", "Restart=perhaps"))
    result = subprocess.run([*verify, given], capture_output=True, text=True)
    assert "perhaps" in result.stderr  # it has looked at it


class Nginx:
    """nginx with docs/deploy/nginx.conf, its ports and folders replaced."""

    def __init__(self, folder, upstream, limited=False):
        text = (DEPLOY / "nginx.conf").read_text()
        if limited:  # the lines that are an option
            text = re.sub(r"^(\s*)# (?=limit_req|error_page|location @|    |\})", r"\1", text,
                          flags=re.MULTILINE)
        self.plain, self.tls = free_port(), free_port()
        self.upstream = upstream
        for old, new in (
            ("127.0.0.1:8080", f"{HOST}:{upstream}"), ("listen 80;", f"listen {self.plain};"),
            ("listen 443 ", f"listen {self.tls} "), ("/var/log/nginx", str(folder)),
            ("/run/nginx.pid", f"{folder}/nginx.pid"), ("/etc/nginx/coupons", f"{folder}/coupons"),
        ):
            assert old in text
            text = text.replace(old, new)
        temporary = "".join(
            f"{kind}_temp_path {folder}/{kind};"
            for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
        )
        text = text.replace("http {", f"http {{ {temporary}", 1)
        if os.geteuid() == 0:  # else its workers are of a user to whom the folder is closed
            text = f"user root;\n{text}"
        subprocess.run(
            ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=shop",
             "-keyout", folder / "coupons.key", "-out", folder / "coupons.crt"],
            check=True, capture_output=True,
        )
        (folder / "nginx.conf").write_text(text)
        self.log = folder / "access.log"
        self.command = [tool("nginx"), "-p", str(folder), "-c",
                        str(folder / "nginx.conf")]

    def checked(self):
        """What `nginx -t` says."""
        return subprocess.run([*self.command, "-t"], capture_output=True, text=True).stderr

    def connection(self):
        context = ssl._create_unverified_context()
        return http.client.HTTPSConnection(HOST, self.tls, context=context, timeout=10)

    def call(self, method, path, body=None, connection=None, **headers):
        connection = connection or self.connection()
        connection.request(method, path, json.dumps(body) if body else None,
                           {"Content-Type": "application/json", "Host": "shop.example", **headers})
        answer = connection.getresponse()
        return answer, json.loads(answer.read() or "null")

    def upstream_connections(self):
        """How many sockets on this machine are connected to gunicorn, or were a moment ago."""
        port = f":{self.upstream:04X}"
        rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
        return sum(remote.endswith(port) for _, _, remote, state, *_ in rows if state != "06")


@pytest.fixture
def nginx(own_server, launch, tmp_path):
    def start(**options):
        folder = tmp_path / "nginx"
        folder.mkdir()
        tool("nginx")
        api, url = gunicorn(
            own_server.url, tmp_path / "web.log", WEB_CONCURRENCY="1", COUPON_PROXIES="1",
            GUNICORN_CMD_ARGS="--access-logfile -",
        )
        launch(api)
        front = Nginx(folder, int(re.search(r":(\d+)/", url)[1]), **options)
        assert "test is successful" in (said := front.checked()) and "warn" not in said, said
        launch(Process([*front.command, "-g", "daemon off;"], tmp_path / "nginx.log").start())
        wait_until(lambda: listens(front.tls), "nginx to listen")
        front.api = api
        assert front.call("POST", "/api/coupons/register", {"couponId": "A", "quantity": 100})[
            0].status == 200
        return front

    return start


def test_client_is_known_behind_nginx_and_cannot_say_otherwise(nginx):
    front = nginx()
    lies = {"X-Forwarded-For": "6.6.6.6", "X-Forwarded-Prefix": "/evil",
            "X-Forwarded-Proto": "ftp", "X-Request-ID": "mine"}
    answer, body = front.call("POST", "/api/coupons/request", ASKED, **lies)
    assert (answer.status, answer.headers["X-Request-ID"]) == (200, "mine")
    assert answer.headers["Location"] == "/api/coupons/A/users/u"
    front.call("GET", "/api/coupons/A", **lies)
    made = front.call("GET", "/api/coupons/A")[0].headers["X-Request-ID"]
    assert re.fullmatch("[0-9a-f]{32}", made)
    lines = front.api.output().splitlines()
    [asked] = [line for line in lines if "/request" in line]
    assert f"xRequestId=mine requestId={body['requestId']}" in asked
    assert not any("6.6.6.6" in line or "/evil" in line for line in lines)
    assert [line for line in lines if "GET" in line and f"remote={HOST}" in line]
    wait_until(lambda: made in front.log.read_text(), "nginx to log")
    assert "xRequestId=mine" in front.log.read_text()


def test_plain_http_is_sent_to_tls(nginx):
    front = nginx()
    connection = http.client.HTTPConnection(HOST, front.plain)
    connection.request("POST", "/api/coupons/request", "{}", {"Host": "shop.example"})
    answer = connection.getresponse()
    assert answer.status == 308
    assert answer.headers["Location"] == "https://shop.example/api/coupons/request"


@pytest.mark.long
def test_connections_to_gunicorn_are_kept_and_never_used_when_it_has_closed_them(nginx):
    front = nginx()
    for number in range(50):
        answer, _ = front.call("POST", "/api/coupons/request", {**ASKED, "userId": f"u{number}"})
        assert answer.status == 200
    assert 1 <= front.upstream_connections() <= os.cpu_count()
    wait_until(lambda: front.upstream_connections() == 0, "the connections to be closed")
    assert front.call("GET", "/api/coupons/A")[0].status == 200


@pytest.mark.long
def test_half_a_request_keeps_no_connection_to_gunicorn(nginx):
    front = nginx()
    wait_until(lambda: front.upstream_connections() == 0, "the connections to be closed")
    connection = front.connection()
    connection.connect()
    body = json.dumps(ASKED).encode()
    connection.sock.sendall(
        b"POST /api/coupons/request HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\n"
        b"Content-Length: %d\r\n\r\n" % len(body) + body[:10]
    )
    assert front.call("GET", "/api/coupons/A")[0].status == 200
    assert front.upstream_connections() == 1  # that of the whole request
    connection.sock.sendall(body[10:])
    assert connection.sock.recv(100).startswith(b"HTTP/1.1 200 ")


def test_body_that_no_call_needs_is_refused_and_a_long_registration_is_not(nginx):
    front = nginx()
    long = [{"couponId": f"c{number:060}", "quantity": 1} for number in range(1000)]
    assert front.call("POST", "/api/coupons/register", long)[0].status == 200
    connection = front.connection()
    connection.request("POST", "/api/coupons/register", "x" * (513 * 1024))
    assert connection.getresponse().status == 413


@pytest.mark.parametrize("limited", [False, True])
def test_requests_of_one_client_are_limited_where_that_is_chosen(nginx, limited):
    front = nginx(limited=limited)
    connection = front.connection()  # a handshake for each would take as long as the limit allows
    answers = [
        front.call("POST", "/api/coupons/request", {**ASKED, "userId": f"u{number}"}, connection)
        for number in range(60)
    ]
    refused = [(answer, body) for answer, body in answers if answer.status != 200]
    assert bool(refused) == limited
    for answer, body in refused:
        assert (answer.status, body["code"]) == (429, "too_many_requests")
        assert answer.headers["Content-Type"] == "application/problem+json"
        assert answer.headers["Retry-After"] == "1"
    subprocess.run([*front.command, "-s", "reload"], check=True)
    assert front.call("GET", "/api/coupons/A")[0].status == 200


def test_gunicorn_that_is_down_is_502_and_serves_again(nginx):
    front = nginx()
    front.api.stop()
    connection = front.connection()
    connection.request("GET", "/api/coupons/A")
    assert connection.getresponse().status == 502
    front.api.start()
    wait_until(lambda: listens(front.upstream), "gunicorn to listen")
    assert front.call("GET", "/api/coupons/A")[0].status == 200


def test_gunicorn_that_restarts_loses_no_request_behind_nginx(nginx):
    front = nginx()
    connection, statuses, sent = front.connection(), set(), 0
    front.api.signal(signal.SIGHUP)
    while "Worker exiting" not in front.api.output() or sent < 100:
        answer, _ = front.call("POST", "/api/coupons/request",
                               {**ASKED, "userId": f"u{sent % 90}"}, connection)
        statuses.add(answer.status)
        sent += 1
    assert statuses <= {200, 409}
