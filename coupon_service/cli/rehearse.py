"""`flask coupons rehearse`: a sale against the running service, over HTTP alone."""

import json
import secrets
import sys
import time
from base64 import b64encode
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from typing import Any
from urllib.parse import urlsplit

import click

from coupon_service.cli.local_server import url_of_running
from coupon_service.cli.terminal import REFUSED, UNAVAILABLE
from coupon_service.cli.up import LOCAL_TOKEN
from coupon_service.config import environment

fromisoformat = datetime.fromisoformat

#: Connections that ask at the same time.
CONNECTIONS = 16
#: Seconds without a decision after which no more is waited for.
PATIENCE = 10.0
#: Issuances that are read in one call.
PAGE = 1000


class Api:
    """A client of the service for one thread, with the token of administrators."""

    def __init__(self, url: str, token: str) -> None:
        parts = urlsplit(url)
        made = HTTPSConnection if parts.scheme == "https" else HTTPConnection
        self._connection = made(parts.netloc, timeout=30)
        self._headers = {"Content-Type": "application/json"}
        self._root = parts.path.rstrip("/") + "/api/coupons"
        self._admin = "Basic " + b64encode(f":{token}".encode()).decode()

    def call(self, method: str, path: str, body: Any = None, admin: bool = True) -> Any:
        """Return the body of the answer; raises OSError or HTTPException."""
        headers = {**self._headers, **({"Authorization": self._admin} if admin else {})}
        sent = None if body is None else json.dumps(body)
        self._connection.request(method, self._root + path, sent, headers)
        answer = json.loads(self._connection.getresponse().read())
        if admin:
            # The next call may be long after, and the service closes connections that are silent.
            self._connection.close()
        return answer


@click.command()
@click.option("--users", type=click.IntRange(1, 10**6), default=10_000, show_default=True)
@click.option("--quantity", type=click.IntRange(1, 10**6), default=1000, show_default=True)
@click.option("--url", default="http://localhost:8080", show_default=True)
@click.option("--keep", is_flag=True, help="Do not delete the coupon of the rehearsal.")
def rehearse(users: int, quantity: int, url: str, keep: bool) -> None:
    """Run a sale against the service at URL, with a coupon of its own; exits with 1 if anything
    is not as promised. The token is COUPON_ADMIN_TOKEN."""
    token = environment().get("COUPON_ADMIN_TOKEN") or (LOCAL_TOKEN if url_of_running() else "")
    coupon_id = f"rehearsal-{secrets.token_hex(4)}"
    api = Api(url, token)
    try:
        answer = api.call("POST", "/register", {"couponId": coupon_id, "quantity": quantity})
        if "code" in answer:
            raise click.ClickException(f"{answer['code']}: {answer['detail']}")
        try:
            broken = _sale(api, url, token, coupon_id, users, quantity)
        finally:
            if not keep:
                api.call("DELETE", f"/{coupon_id}")
    except (OSError, HTTPException, ValueError) as error:
        click.echo(f"Error: {url} does not answer as the service does: {error}", err=True)
        sys.exit(UNAVAILABLE)
    for text in broken:
        click.echo(f"BROKEN: {text}")
    click.echo("not as promised" if broken else "as promised")
    sys.exit(REFUSED if broken else 0)


def _sale(
    api: Api, url: str, token: str, coupon_id: str, users: int, quantity: int
) -> list[str]:
    """Let all users request, wait for the decisions, print what happened; return what is broken."""
    names = [f"user{number}" for number in range(users)]
    times: list[float] = []
    codes: dict[str, str] = {}
    with click.progressbar(length=users, label="requests", file=sys.stderr) as bar:

        def ask(row: int) -> None:
            mine = Api(url, token)
            for name in names[row::CONNECTIONS]:
                started = time.monotonic()
                body = {"couponId": coupon_id, "userId": name}
                answer = mine.call("POST", "/request", body, admin=False)
                times.append(time.monotonic() - started)
                codes[name] = answer.get("code", "accepted")
                bar.update(1)

        with ThreadPoolExecutor(CONNECTIONS) as threads:
            list(threads.map(ask, range(CONNECTIONS)))
    shown = _decided(api, coupon_id)
    issued = _issuances(api, coupon_id)
    holders = [each["userId"] for each in issued]
    accepted = {name for name, code in codes.items() if code == "accepted"}
    refused = sum(code == "sold_out" for code in codes.values())
    others = sorted(set(codes.values()) - {"accepted", "sold_out"})
    promised = min(users, quantity)
    waits = sorted(times)
    click.echo(f"promised  {promised} issued, {users - promised} refused, nobody twice")
    click.echo(f"happened  {shown['issued']} issued, {refused} refused, "
               f"{len(holders) - len(set(holders))} twice")
    click.echo(f"request   p50 {_ms(waits, 50)} ms, p99 {_ms(waits, 99)} ms")
    if issued:
        # Both by the clock of the service. The newest issuance is the first of the list.
        took = fromisoformat(issued[0]["issuedAt"]) - fromisoformat(shown["registeredAt"])
        click.echo(f"last one  issued after {took.total_seconds():.1f} s")
    return [text for wrong, text in (
        (others, f"requests are answered with {', '.join(others)}"),
        (shown["pending"], f"{shown['pending']} requests are not decided: does a worker run?"),
        (shown["issued"] > promised, f"{shown['issued'] - promised} too many are issued"),
        (shown["issued"] < promised, f"{promised - shown['issued']} too few are issued"),
        (len(holders) != len(set(holders)), "a user has two"),
        (not shown["pending"] and set(holders) != accepted, "who was accepted is not who has one"),
        (refused != users - promised, f"{refused} users are refused as sold out"),
    ) if wrong]


def _decided(api: Api, coupon_id: str) -> Any:
    """Wait until nothing is pending, or nothing was decided for PATIENCE; return the snapshot."""
    pending, deadline = -1, 0.0
    while True:
        shown = api.call("GET", f"/{coupon_id}")
        if shown["pending"] != pending:
            pending, deadline = shown["pending"], time.monotonic() + PATIENCE
        if not pending or time.monotonic() > deadline:
            return shown
        time.sleep(0.05)


def _issuances(api: Api, coupon_id: str) -> list[dict[str, str]]:
    issued: list[dict[str, str]] = []
    page = api.call("GET", f"/{coupon_id}/issuances?limit={PAGE}")
    while True:
        issued += page["issuances"]
        if not page["next"]:
            return issued
        page = api.call("GET", f"/{coupon_id}/issuances?limit={PAGE}&before={page['next']}")


def _ms(waits: list[float], percent: int) -> str:
    return f"{1000 * waits[(len(waits) - 1) * percent // 100]:.1f}"
