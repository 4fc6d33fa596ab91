"""The services that are compared, each as its makers would run it."""

import shutil
import subprocess
from functools import cache
from pathlib import Path

from bench.literal_worker import STREAM
from bench.peers import COUPON, PROCESSES, PYTHON, WORKER, Peer, gunicorn
from coupon_service.cli.local_server import HOST
from tests.processes import ROOT
from tests.state import KEYS

OURS, FASTAPI, FASTIFY = "coupon-service", "FastAPI", "Fastify"
LITERAL, FLOOR = "literal", "a bare Flask route"


class Floor(Peer):
    """Takes no notice of its data."""

    promises = False


class Literal(Peer):
    """The data as the original description has it."""

    promises = False

    def register(self, quantity: int) -> None:
        self.quantity = quantity
        pipeline = self.client.pipeline()
        # The stream and its group stay: the original's worker knows no way back without them.
        for key in self.client.keys("coupon:*"):
            pipeline.delete(key)
        pipeline.set(KEYS.stock(COUPON), quantity)
        pipeline.execute()

    def admit(self, numbers: range) -> None:
        with self.client.pipeline(transaction=False) as pipeline:
            for number in numbers:
                pipeline.incr(KEYS.requested(COUPON))
                pipeline.xadd(STREAM, {"couponId": COUPON, "userId": f"user{number}"})
            pipeline.execute()

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


#: gevent's server as it comes: the service's own class reads heads with llhttp.
_GEVENT = ("--worker-class", "gevent_pywsgi")
_UVICORN = [
    *PYTHON, "uvicorn", "--host", HOST, "--port", "PORT", "--no-access-log", "--workers",
    str(PROCESSES), "--loop", "uvloop", "--http", "httptools", "--backlog", "2048",
    "--log-level", "warning",
]
#: By name: what it is, the command of its web processes, and that of its worker.
_SERVICES: dict[str, tuple[type[Peer], list[str], list[str]]] = {
    OURS: (Peer, gunicorn("wsgi:app"), WORKER),
    FASTAPI: (Peer, [*_UVICORN, "bench.asynchronous:app"], WORKER),
    LITERAL: (Literal, gunicorn("bench.literal:app", *_GEVENT), [*PYTHON, "bench.literal_worker"]),
    FLOOR: (Floor, gunicorn("bench.apps:bare_flask()", *_GEVENT), []),
    FASTIFY: (Peer, ["node", "bench/fastify/server.js"], WORKER),
}


def services(folder: Path, *names: str) -> dict[str, Peer]:
    """Prepare services by name, each in a folder in `folder`; start them with `running`.

    Fastify is left out where npm or its packages are not to be had.
    """
    return {
        name: kind(name, web, worker, folder / name.replace(" ", "-"))
        for name, (kind, web, worker) in _SERVICES.items()
        if name in names and (name != FASTIFY or _install_fastify())
    }


@cache
def _install_fastify() -> bool:
    if not shutil.which("npm"):
        return False
    command = ["npm", "install", "--no-package-lock", "--no-audit", "--no-fund", "--silent"]
    return not subprocess.run(
        command, cwd=ROOT / "bench" / "fastify", capture_output=True
    ).returncode
