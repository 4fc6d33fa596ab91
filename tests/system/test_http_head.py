"""Heads of requests that are malformed, or made to be read differently by a proxy."""

import socket
import time
from urllib.parse import urlsplit

import pytest

from tests.processes import HOST, gunicorn

POST = "POST /api/coupons/request HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\n"
BODY = '{"couponId": "NOWHERE", "userId": "u"}'
LENGTH = f"Content-Length: {len(BODY)}\r\n"


@pytest.fixture(scope="module")
def api(shared_server, tmp_path_factory):
    log = tmp_path_factory.mktemp("head") / "web.log"
    process, url = gunicorn(shared_server.url, log, WEB_CONCURRENCY="1")
    yield HOST, urlsplit(url).port
    process.stop()


def status_of(api, sent):
    """The status of the only answer, and whether the connection is closed after it."""
    with socket.create_connection(api, timeout=10) as connection:
        connection.sendall(sent.encode("latin-1") if isinstance(sent, str) else sent)
        connection.settimeout(4)
        answer = b""
        try:
            while more := connection.recv(65_536):
                answer += more
        except TimeoutError:
            return int(answer.split(b" ", 2)[1]), answer.count(b"HTTP/1.1 "), False
        return int(answer.split(b" ", 2)[1]), answer.count(b"HTTP/1.1 "), True


REFUSED = {
    "second length that differs": f"{POST}{LENGTH}Content-Length: 5\r\n\r\n{BODY}",
    "second length that is the same": f"{POST}{LENGTH}{LENGTH}\r\n{BODY}",
    "signed length": f"{POST}Content-Length: +{len(BODY)}\r\n\r\n{BODY}",
    "length with underscore": f"{POST}Content-Length: 3_8\r\n\r\n{BODY}",
    "hexadecimal length": f"{POST}Content-Length: 0x26\r\n\r\n{BODY}",
    "list of lengths": f"{POST}Content-Length: 38, 38\r\n\r\n{BODY}",
    "length and chunked": f"{POST}{LENGTH}Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "chunked, then another coding": f"{POST}Transfer-Encoding: chunked, gzip\r\n\r\n0\r\n\r\n",
    "another coding": f"{POST}Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
    "blank before the colon": f"{POST}Content-Length : {len(BODY)}\r\n\r\n{BODY}",
    "bare LF in the request line": POST.replace("1.1\r\n", "1.1\n") + f"{LENGTH}\r\n{BODY}",
    "bare LF after a field": f"{POST}X: y\n{LENGTH}\r\n{BODY}",
    "bare LF at the end": f"{POST}{LENGTH}\n{BODY}",
    "bare CR in a field": f"{POST}X: a\rb\r\n{LENGTH}\r\n{BODY}",
    "NUL in a field": f"{POST}X: a\0b\r\n{LENGTH}\r\n{BODY}",
    "control character in a name": f"{POST}X\x01: a\r\n{LENGTH}\r\n{BODY}",
    "no name": f"{POST}: a\r\n{LENGTH}\r\n{BODY}",
    "no colon": f"{POST}field\r\n{LENGTH}\r\n{BODY}",
    "folded field": f"{POST}X: a\r\n b\r\n{LENGTH}\r\n{BODY}",
    "first line is folded": f"POST /api/coupons/request HTTP/1.1\r\n X: y\r\n{LENGTH}\r\n{BODY}",
    "no version": "GET /healthz\r\n\r\n",
    "unknown version": "GET /healthz HTTP/3.0\r\nHost: a\r\n\r\n",
    "blank in the path": "GET /health z HTTP/1.1\r\nHost: a\r\n\r\n",
    "control character in the path": "GET /health\x01z HTTP/1.1\r\nHost: a\r\n\r\n",
    "rubbish": "\x16\x03\x01\x02\x00\x01\r\n\r\n",
    "head that is too long": "GET /healthz HTTP/1.1\r\nHost: a\r\n" + "X: y\r\n" * 5000 + "\r\n",
    "field that is too long": f"GET /healthz HTTP/1.1\r\nX: {'y' * 20_000}\r\n\r\n",
    "length of HEAD": f"HEAD /healthz HTTP/1.1\r\nHost: a\r\n{LENGTH}\r\n{BODY}",
}


@pytest.mark.parametrize("sent", REFUSED.values(), ids=REFUSED.keys())
def test_head_that_can_be_read_in_two_ways_is_refused_and_ends_the_connection(api, sent):
    follower = "GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n"
    status, answers, closed = status_of(api, sent + follower)
    assert (status, answers, closed) == (400, 1, True)


def test_path_that_is_too_long_is_414(api):
    status, answers, closed = status_of(api, f"GET /{'a' * 9000} HTTP/1.1\r\nHost: a\r\n\r\n")
    assert (status, answers, closed) == (414, 1, True)


@pytest.mark.parametrize("sent, status", [
    ("GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n", 200),
    ("HEAD /healthz HTTP/1.1\r\nHost: a\r\n\r\n", 200),
    ("\r\nGET /healthz HTTP/1.1\r\nHost: a\r\n\r\n", 200),
    ("GET /healthz HTTP/1.1\r\nHost: a\r\nUpgrade: h2c\r\nConnection: Upgrade\r\n\r\n", 200),
    ("GET /healthz HTTP/1.1\r\nHost: a\r\nX: caf\xe9\r\nX: y\r\nEmpty:\r\n\r\n", 200),
    ("GET /nothing%20here?x=1 HTTP/1.1\r\nHost: a\r\n\r\n", 404),
    ("PATCH /healthz HTTP/1.1\r\nHost: a\r\n\r\n", 405),
    (f"{POST}{LENGTH}\r\n{BODY}", 404),
    (f"{POST}{LENGTH.lower()}\r\n{BODY}", 404),
    (f"{POST}Transfer-Encoding: chunked\r\n\r\n{len(BODY):x}\r\n{BODY}\r\n0\r\n\r\n", 404),
])
def test_sound_head_is_answered_and_keeps_the_connection(api, sent, status):
    last = "GET /healthz HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
    assert status_of(api, sent + last) == (status, 2, True)


@pytest.mark.parametrize("sent, kept", [
    ("GET /healthz HTTP/1.0\r\n\r\n", False),
    ("GET /healthz HTTP/1.0\r\nConnection: keep-alive\r\n\r\n", True),
    ("GET /healthz HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n", False),
    ("GET /healthz HTTP/1.1\r\nHost: a\r\nConnection: foo, close\r\n\r\n", False),
])
def test_connection_is_kept_as_its_head_says(api, sent, kept):
    status, _, closed = status_of(api, sent)
    assert (status, closed) == (200, not kept)


def test_head_that_comes_in_pieces_is_read(api):
    with socket.create_connection(api, timeout=10) as connection:
        for letter in f"{POST}{LENGTH}\r\n{BODY}":
            connection.sendall(letter.encode())
            time.sleep(0.001)  # each in a segment of its own
        assert connection.recv(65_536).startswith(b"HTTP/1.1 404 ")


def test_large_heads_take_no_memory_that_stays(api):
    head = b"GET /healthz HTTP/1.1\r\nHost: a\r\n" + b"X: " + b"y" * 1_000_000
    for _ in range(20):
        with socket.create_connection(api, timeout=10) as connection:
            try:
                connection.sendall(head)
                assert connection.recv(100).startswith(b"HTTP/1.1 400 ")
            except ConnectionError:
                pass  # it was closed before all was sent
    assert status_of(api, "GET /healthz HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")[0] == 200
