"""Servers, and data in them as the service itself makes it, in large amounts."""

import re
import shutil
import subprocess
from pathlib import Path

from redis import Redis

from bench.peers import PLENTY
from coupon_service.cli.local_server import find_server
from coupon_service.config import Config
from coupon_service.connection import connect
from coupon_service.scripts import Registration, Request
from coupon_service.web.api import new_request_id
from tests.processes import Server
from tests.state import KEYS, scripts_on, worker_on

#: Requests that are admitted, and decided, at a time.
BATCH = 500


def programs() -> dict[str, str]:
    """Find the programs of a Redis server, by the memory allocator that each is built with.

    Returns:
        Those of the one on the PATH, as Debian builds it ("jemalloc"), and of the one that comes
        along ("libc"); one of them where both have the same.
    """
    found = filter(None, (find_server(), shutil.which("redis-server")))
    return {_allocator(program): program for program in found}


def _allocator(program: str) -> str:
    said = subprocess.run([program, "--version"], capture_output=True, text=True, check=True)
    [allocator] = re.findall(r"malloc=([a-z]+)", said.stdout)
    return str(allocator)


def server_of(program: str, folder: Path, *options: str) -> Server:
    """Start a server of a program of `programs`, in a folder that is made."""
    folder.mkdir()
    server = Server(folder, *options)
    server.command[0] = program
    return server.start()


def used_memory(client: Redis) -> int:
    """Give the bytes that the data of a server take."""
    return int(client.info("memory")["used_memory"])


def issue(client: Redis, coupon_id: str, count: int) -> None:
    """Register a coupon with plenty left, and issue it to `count` users."""
    scripts = scripts_on(client)
    scripts.register([Registration(coupon_id, PLENTY)])
    connection = client.connection_pool.connection_kwargs
    url = f"redis://{connection['host']}:{connection['port']}/0"
    worker = worker_on(connect(Config(redis_url=url), 30, 0), worker_batch=BATCH)
    for start in range(0, count, BATCH):
        numbers = range(start, min(start + BATCH, count))
        requests = [Request(coupon_id, f"user{number}", new_request_id()) for number in numbers]
        assert scripts.admit(requests) == [["accepted"]] * len(requests)
        while client.xlen(KEYS.requests):
            worker.run_once()
