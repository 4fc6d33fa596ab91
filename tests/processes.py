"""Real processes for the tests: a server, the API, workers."""

import itertools
import os
import random
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from redis import Redis
from redis.backoff import NoBackoff
from redis.exceptions import RedisError
from redis.retry import Retry

from coupon_service.cli.local_server import HOST, find_server, server_command

ROOT = Path(__file__).parent.parent

#: Seconds that anything here may take before a test fails.
PATIENCE = 60.0


def wait_until(condition: Callable[[], object], what: str, seconds: float = PATIENCE) -> None:
    """Return as soon as `condition()` is true; fail the test after `seconds`."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"waited {seconds} s for {what}"
        time.sleep(0.01)


def assert_in_time(limit: float, measure: Callable[[int], float], tries: int = 5) -> None:
    """Fail unless one of several tries takes less than `limit` seconds, because other processes of
    this machine slow one or another; `measure` is given the number of the try."""
    taken: list[float] = []
    while not taken or min(taken) >= limit:
        assert len(taken) < tries, f"took {taken} s, not {limit} s"
        taken.append(measure(len(taken)))


def _ports() -> Iterator[int]:
    """Ports that no system gives to connections; other ones in each process of pytest-xdist."""
    process = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw")) % 8
    ports = range(10_000 + 2_500 * process, 12_500 + 2_500 * process)
    # Another run of the tests on this machine begins elsewhere.
    return itertools.chain(ports[random.SystemRandom().randrange(2_500):], itertools.cycle(ports))


_untried = _ports()


def free_port() -> int:
    """A port of the loopback interface that nobody listens on, another one each time."""
    for port in _untried:
        with socket.socket() as probe:
            with suppress(OSError):
                probe.bind((HOST, port))
                return port
    raise AssertionError("unreachable: the ports are a cycle")


def listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex((HOST, port)) == 0


def tool(*names: str) -> str:
    """A program that does not come with Python, the first of these that is there; a test that
    needs it is skipped without, but not in CI."""
    places = f"{Path(sys.executable).parent}:{os.environ['PATH']}:/usr/sbin"
    program = next(filter(None, (shutil.which(name, path=places) for name in names)), None)
    if not program and not os.environ.get("CI"):
        pytest.skip(f"{names[0]} is not installed")
    assert program, f"{names[0]} is not installed"
    return program


class Process:
    """A process of its own session, its output kept in a file, that can be killed whole."""

    def __init__(
        self, command: list[str], log: Path, folder: Path = ROOT, **variables: str
    ) -> None:
        self.command, self.log, self.folder, self.variables = command, log, folder, variables
        self.popen: subprocess.Popen[bytes] | None = None

    def start(self) -> "Process":
        environment = {k: v for k, v in os.environ.items() if k != "REDIS_URL"}
        with self.log.open("ab") as log:
            self.popen = subprocess.Popen(
                self.command, cwd=self.folder, stdout=log, stderr=log, start_new_session=True,
                env={**environment, "PYTHONUNBUFFERED": "1", **self.variables},
            )
        return self

    @property
    def pid(self) -> int:
        assert self.popen is not None
        return self.popen.pid

    def output(self) -> str:
        return self.log.read_text(encoding="utf-8", errors="replace")

    def signal(self, number: int) -> None:
        self.popen.send_signal(number)

    def wait(self, seconds: float = PATIENCE) -> int:
        return self.popen.wait(seconds)

    def stop(self) -> None:
        """End the process and all it started, at once; also a stopped or finished one."""
        if self.popen is None:
            return
        try:
            os.killpg(self.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        self.popen.wait()


class Server(Process):
    """A Redis server with AOF in a folder of its own. COUPON_TEST_SERVER names the program."""

    def __init__(self, folder: Path, *options: str) -> None:
        self.port = free_port()
        self.url = f"redis://{HOST}:{self.port}/0"
        program = os.environ.get("COUPON_TEST_SERVER") or find_server()
        super().__init__(
            [*server_command(program, self.port, folder), *options], folder / "server.log",
            folder,
        )

    def start(self, answer: str = "PONG") -> "Server":
        """Start the server and wait until it answers a PING with a text that has `answer`."""
        super().start()
        wait_until(lambda: answer in self._ping(), f"{answer} from the server\n{self.output()}")
        return self

    def _ping(self) -> str:
        try:
            with self.client(timeout=1) as client:
                client.ping()
                return "PONG"
        except RedisError as error:
            return str(error)

    def client(self, timeout: float = PATIENCE) -> Redis:
        """A client for looking at the server: no retries, so that it shows what happens."""
        return Redis.from_url(
            self.url, decode_responses=True, socket_timeout=timeout,
            retry=Retry(NoBackoff(), 0),
        )


def worker(redis_url: str, log: Path, **variables: str) -> Process:
    return Process([sys.executable, "worker.py"], log, REDIS_URL=redis_url, **variables).start()


def gunicorn(redis_url: str, log: Path, **variables: str) -> tuple[Process, str]:
    """Start the API as it is deployed; return the process and the URL of /api/coupons."""
    port = free_port()
    command = shlex.split(dict(
        line.split(": ", 1) for line in (ROOT / "Procfile").read_text().splitlines()
    )["web"])
    process = Process(
        [sys.executable, "-m", *command, "--bind", f"{HOST}:{port}"], log,
        REDIS_URL=redis_url, **variables,
    ).start()
    wait_until(lambda: listens(port), "gunicorn to listen")
    return process, f"http://{HOST}:{port}/api/coupons"
