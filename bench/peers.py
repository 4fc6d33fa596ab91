"""A service that is measured: its processes, and what is in its Redis."""

import json
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.request import urlopen

from redis import Redis

from coupon_service.cli.local_server import HOST
from coupon_service.scripts import Registration, Request, source
from tests.processes import Process, Server, free_port, listens, wait_until
from tests.state import KEYS, assert_consistent, scripts_on

COUPON = "BENCH"
PLENTY = 10**9
#: Processes of each service, as in gunicorn.conf.py.
PROCESSES = 2

PYTHON = [sys.executable, "-m"]
WORKER = [sys.executable, "worker.py"]


def gunicorn(app: str, *options: str) -> list[str]:
    """Make the command that serves an application as `Peer` wants it."""
    return [*PYTHON, "gunicorn", "--bind", f"{HOST}:PORT", *options, app]


class Peer:
    """A service with a Redis server and a worker of its own, so that nobody pays for another."""

    #: Whether every accepted request is to be issued.
    promises = True

    def __init__(
        self, name: str, web: list[str], worker: list[str], folder: Path,
        options: Iterable[str] = (), **settings: str,
    ) -> None:
        """Prepare a service; nothing is started yet.

        Args:
            name: as it is shown.
            web: the command of the web processes, with PORT for the port.
            worker: the command of the worker; empty: there is none.
            folder: where its data and logs go; it is made.
            options: of its Redis server, beside the usual.
            settings: of its processes' environment, beside the usual.
        """
        folder.mkdir()
        self.name = name
        self.port = free_port()
        self.server = Server(folder, *options)
        variables = {
            "REDIS_URL": self.server.url, "PORT": str(self.port), "PROCESSES": str(PROCESSES),
            "WEB_CONCURRENCY": str(PROCESSES), "ADMIT_LUA": str(folder / "admit.lua"),
            **settings,
        }
        (folder / "admit.lua").write_text(source("admit"), encoding="utf-8")
        web = [word.replace("PORT", str(self.port)) for word in web]
        self.web = Process(web, folder / "web.log", **variables)
        self.worker = Process(worker, folder / "worker.log", **variables) if worker else None

    @property
    def processes(self) -> dict[str, Process]:
        """What runs, by the name under which its CPU time is told."""
        every = {"web": self.web, "redis": self.server, "worker": self.worker}
        return {name: process for name, process in every.items() if process}

    def start(self) -> None:
        """Start everything, and do not wait for the web processes."""
        self.server.start()
        self.client: Redis = self.server.client()
        self.web.start()
        if self.worker:
            self.worker.start()

    def stop(self) -> None:
        """End everything."""
        for process in self.processes.values():
            process.stop()

    def register(self, quantity: int) -> None:
        """Begin anew with one coupon."""
        self.client.flushall()
        scripts_on(self.client).register([Registration(COUPON, quantity)])

    def admit(self, numbers: range) -> None:
        """Let the users user0, user1 … with these numbers have places, as the service does."""
        requests = [
            Request(COUPON, f"user{number}", f"request{number:08}") for number in numbers
        ]
        assert scripts_on(self.client).admit(requests) == [["accepted"]] * len(requests)

    def assert_polls(self) -> None:
        """Check that the first user's poll is answered with `issued`."""
        url = f"http://{HOST}:{self.port}/api/coupons/{COUPON}/users/user0"
        with urlopen(url) as answer:
            assert json.load(answer)["status"] == "issued", self.name

    def backlog(self) -> int:
        """How many requests wait for a decision."""
        return int(self.client.xlen(KEYS.requests))

    def issued(self) -> int:
        """How many coupons were issued."""
        quantity = int(self.client.hget(KEYS.coupon(COUPON), "quantity") or 0)
        return quantity - int(self.client.get(KEYS.stock(COUPON)) or 0)

    def settle(self) -> None:
        """Wait until everything accepted is decided, also what wrk did not wait for."""
        last = -1
        while self.backlog() or last != (last := self.client.dbsize()):
            time.sleep(0.3)

    def assert_exact(self) -> None:
        """Check, from the marks and the log, that counters, marks and log agree."""
        assert_consistent(self.client, COUPON)

    def last_issued(self) -> float:
        """When the last coupon was issued, in seconds since 1970."""
        [(log_id, _)] = self.client.xrevrange(KEYS.issuances(COUPON), count=1)
        return int(log_id.partition("-")[0]) / 1000


@contextmanager
def running(*peers: Peer) -> Iterator[None]:
    """Run these services until the block is left; they answer when it is entered."""
    try:
        for peer in peers:
            peer.start()
        for peer in peers:
            wait_until(
                lambda peer=peer: listens(peer.port),  # type: ignore[misc]
                f"{peer.name} to listen\n{peer.web.output()}",
            )
        yield
    finally:
        for peer in peers:
            peer.stop()
