"""Clients that ask for coupons over HTTP, many at a time."""

import http.client
import json
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple
from urllib.parse import urlsplit


class Answer(NamedTuple):
    user: str
    status: int
    code: str
    body: dict


class Client:
    """One keep-alive connection to the API."""

    def __init__(self, url: str, timeout: float = 10.0) -> None:
        parts = urlsplit(url)
        self._path = parts.path
        self._connection = http.client.HTTPConnection(parts.hostname, parts.port, timeout=timeout)

    def call(self, method: str, path: str, body: dict | None = None, **headers: str):
        """Return (status, headers, body); a broken connection is an OSError or HTTPException."""
        try:
            self._connection.request(
                method, self._path + path, json.dumps(body) if body is not None else None,
                {"Content-Type": "application/json", **headers},
            )
            response = self._connection.getresponse()
            return response.status, response.headers, json.loads(response.read())
        except Exception:
            self._connection.close()
            raise

    def abandon(self, path: str, body: dict) -> None:
        """Send a request and close the connection without reading the answer."""
        try:
            self._connection.request(
                "POST", self._path + path, json.dumps(body), {"Content-Type": "application/json"}
            )
        except OSError:
            pass
        finally:
            self._connection.close()

    def register(self, coupon: str, quantity: int, token: str = "") -> dict:
        authorization = {"Authorization": f"Bearer {token}"} if token else {}
        status, _, body = self.call(
            "POST", "/register", {"couponId": coupon, "quantity": quantity}, **authorization
        )
        assert status == 200, body
        return body

    def ask(self, coupon: str, user: str, **headers: str) -> Answer:
        status, _, body = self.call(
            "POST", "/request", {"couponId": coupon, "userId": user}, **headers
        )
        return Answer(user, status, body.get("code", "accepted"), body)

    def close(self) -> None:
        self._connection.close()


def ask_all(url: str, coupon: str, users: Iterable[str], connections: int) -> list[Answer]:
    """Let every user ask once, in the order given, over `connections` at a time."""
    waiting = iter(list(users))

    def one_connection(_: int) -> list[Answer]:
        client = Client(url)
        answers = [client.ask(coupon, user) for user in waiting]
        client.close()
        return answers

    with ThreadPoolExecutor(connections) as pool:
        return [answer for part in pool.map(one_connection, range(connections)) for answer in part]
