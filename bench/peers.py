"""The services that are compared: how each is started, and what is in its Redis."""

import shutil
import subprocess
import sys
import time
from pathlib import Path

from redis import Redis

from bench.literal_worker import STREAM
from coupon_service.cli.up import HOST
from coupon_service.scripts import Registration, Request, source
from tests.processes import ROOT, Process, Server, free_port, listens, wait_until
from tests.state import KEYS, assert_consistent, scripts_on

COUPON = "BENCH"
PLENTY = 10**9
#: Processes of each service, as in gunicorn.conf.py.
PROCESSES = 2

_PYTHON = [sys.executable, "-m"]
WORKER = [sys.executable, "worker.py"]


def gunicorn(app: str) -> list[str]:
    """Make the command that serves an application as `Peer` wants it."""
    return [*_PYTHON, "gunicorn", "--bind", f"{HOST}:PORT", app]


class Peer:
    """A service with a Redis server and a worker of its own, so that nobody pays for another."""

    #: Whether every accepted request is to be issued.
    promises = True

    def __init__(
        self, name: str, web: list[str], worker: list[str], folder: Path, **settings: str
    ) -> None:
        """`settings`: what its processes find in their environment beside the usual."""
        folder.mkdir()
        self.name = name
        self.port = free_port()
        self.server = Server(folder)
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
        """Start everything, and wait until it answers."""
        self.server.start()
        self.client: Redis = self.server.client()
        self.web.start()
        if self.worker:
            self.worker.start()
        wait_until(lambda: listens(self.port), f"{self.name} to listen\n{self.web.output()}")

    def stop(self) -> None:
        """End everything."""
        for process in self.processes.values():
            process.stop()

    def register(self, quantity: int) -> None:
        """Begin anew with one coupon."""
        self.client.flushall()
        scripts_on(self.client).register([Registration(COUPON, quantity)])

    def admit(self, user_id: str) -> None:
        """Let one user have a place."""
        assert scripts_on(self.client).admit([Request(COUPON, user_id, "bench")]) == [["accepted"]]

    def backlog(self) -> int:
        """How many requests wait for a decision."""
        return int(self.client.xlen(KEYS.requests))

    def issued(self) -> int:
        """How many coupons were issued."""
        quantity = int(self.client.hget(KEYS.coupon(COUPON), "quantity") or 0)
        return quantity - int(self.client.get(KEYS.stock(COUPON)) or 0)

    def refuses(self, outcome: str) -> bool:
        """Whether this outcome of a request is told to the user at once."""
        return outcome != "accepted"

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


class Floor(Peer):
    """Has neither data nor a promise."""

    promises = False

    def refuses(self, outcome: str) -> bool:
        return False

    def backlog(self) -> int:
        return 0

    def issued(self) -> int:
        return 0

    def assert_exact(self) -> None:
        pass


class Literal(Peer):
    """The data as the original description has it."""

    promises = False

    def refuses(self, outcome: str) -> bool:
        return outcome == "sold_out"

    def register(self, quantity: int) -> None:
        self.quantity = quantity
        pipeline = self.client.pipeline()
        # The stream and its group stay: the original's worker knows no way back without them.
        for key in self.client.keys("coupon:*"):
            pipeline.delete(key)
        pipeline.set(KEYS.stock(COUPON), quantity)
        pipeline.execute()

    def admit(self, user_id: str) -> None:
        self.client.incr(KEYS.requested(COUPON))
        self.client.xadd(STREAM, {"couponId": COUPON, "userId": user_id})

    def backlog(self) -> int:
        [group] = self.client.xinfo_groups(STREAM)
        return int(group["lag"] or 0) + int(group["pending"])

    def issued(self) -> int:
        return self.quantity - int(self.client.get(KEYS.stock(COUPON)))

    def last_issued(self) -> float:
        return float("nan")  # it is written nowhere

    def assert_exact(self) -> None:
        marks = sum(1 for _ in self.client.scan_iter(KEYS.user(COUPON, "*"), count=1000))
        assert marks == self.issued()


def start_all(folder: Path) -> dict[str, Peer]:
    """Start the services that can be started here, each in a folder in `folder`.

    Returns:
        The running services by name; without "node" where npm or its packages are not to be had.
    """
    uvicorn = [*_PYTHON, "uvicorn", "--host", HOST, "--port", "PORT", "--no-access-log",
               "--workers", str(PROCESSES), "--loop", "uvloop", "--http", "httptools",
               "--backlog", "2048", "--log-level", "warning"]
    peers = [
        Peer("coupon-service", gunicorn("wsgi:app"), WORKER, folder / "ours"),
        Floor("floor", gunicorn("bench.floor:app"), [], folder / "floor"),
        Literal("literal", gunicorn("bench.literal:app"),
                [*_PYTHON, "bench.literal_worker"], folder / "literal"),
        Peer("async", [*uvicorn, "bench.asynchronous:app"], WORKER, folder / "async"),
    ]
    if _install_fastify():
        peers.append(Peer("node", ["node", "bench/fastify/server.js"], WORKER, folder / "node"))
    for peer in peers:
        peer.start()
    return {peer.name: peer for peer in peers}


def _install_fastify() -> bool:
    if not shutil.which("npm"):
        return False
    command = ["npm", "install", "--no-package-lock", "--no-audit", "--no-fund", "--silent"]
    return not subprocess.run(
        command, cwd=ROOT / "bench" / "fastify", capture_output=True
    ).returncode
