"""Sends requests with wrk, and tells what they cost in CPU time of each process."""

import json
import os
import shutil
import subprocess
import uuid
from pathlib import Path
from typing import NamedTuple

from bench.peers import COUPON, Peer
from coupon_service.cli.local_server import HOST

#: Users whose status is polled, as in load.lua.
POLLED = 1000

_SCRIPT = Path(__file__).parent / "load.lua"


class Load(NamedTuple):
    """What wrk saw, and what it cost.

    Times are in microseconds; `cpu` is the CPU time by process name ("web", "redis", "worker" and
    "wrk") divided by the number of answers. `refused` counts the answers that are not 2xx or 3xx.
    """

    answers: int
    per_second: float
    p50: int
    p99: int
    slowest: int
    refused: int
    cpu: dict[str, float]


def send(
    peer: Peer, seconds: int, connections: int, *, kind: str = "request",
    heads: str = "browser", count: int = 0, rate: int = 0,
) -> Load:
    """Let users ask `peer` for the coupon, or poll.

    Args:
        peer: a running service.
        seconds: how long, at the most.
        connections: how many at a time, each with one request at a time.
        kind: "request": each is another user's; "poll": the first POLLED users', in turn.
        heads: "browser": a request has 16 header fields and a poll 14, as Chrome sends them;
            "bare": those without which it would not be valid.
        count: requests in all; 0: as many as the time allows.
        rate: requests a second, in all; 0: each connection asks without a pause.

    Raises:
        AssertionError: a connection broke, or a request was left without an answer.
    """
    processes = {name: process.pid for name, process in peer.processes.items()}
    before = {name: cpu_us(pid) for name, pid in processes.items()}
    spent = os.times()
    output = subprocess.run(
        ["wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "--timeout", "30s",
         "-s", str(_SCRIPT), f"http://{HOST}:{peer.port}", "--", COUPON, kind,
         uuid.uuid4().hex[:8], heads, str(count), str(rate)],
        capture_output=True, text=True, check=True,
    ).stdout
    wrk = os.times()
    told = json.loads(output.splitlines()[-1])
    assert not told["broken"], (peer.name, told)
    answers = told["requests"]
    assert not count or answers == told["ok"] + told["refused"] == count, (peer.name, told)
    cpu = {name: (cpu_us(pid) - before[name]) / answers for name, pid in processes.items()}
    cpu["wrk"] = 1e6 * (
        wrk.children_user + wrk.children_system - spent.children_user - spent.children_system
    ) / answers
    return Load(
        answers, answers / told["duration"] * 1e6, told["p50"], told["p99"], told["max"],
        told["status"], cpu,
    )


def cpu_us(session: int) -> float:
    """CPU time that the processes of a session have used, in microseconds (proc(5))."""
    ticks = 0
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            fields = (entry / "stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue  # it has just ended
        if int(fields[3]) == session:
            ticks += int(fields[11]) + int(fields[12])
    return ticks * 1e6 / os.sysconf("SC_CLK_TCK")


def require_tools() -> None:
    """Stop with a clear line where the load generators are missing."""
    missing = [tool for tool in ("wrk", "redis-benchmark") if not shutil.which(tool)]
    if missing:
        raise SystemExit(f"missing: {', '.join(missing)} (Debian: apt-get install wrk redis-tools)")
