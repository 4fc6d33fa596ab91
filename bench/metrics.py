"""What counting the answers costs: the service with it and without it, in turn."""

import statistics
import subprocess
import sys
from pathlib import Path

from bench.peers import WORKER, Peer, gunicorn
from bench.report import Goal, Section, ratio, spread, table
from bench.requests import in_turn
from bench.scale import Scale
from tests.processes import ROOT

CONNECTIONS = 64
#: Microseconds of CPU that counting may add to a request.
MOST_US = 3.0


def run(folder: Path, scale: Scale) -> Section:
    """Measure accepted and sold out under load, and accepted without HTTP and Redis."""
    peers = {
        "counted": Peer("counted", gunicorn("wsgi:app"), WORKER, folder / "with"),
        "not counted": Peer("not counted", gunicorn("bench.uncounted:app"), WORKER,
                            folder / "without"),
    }
    cpu = {}
    try:
        for peer in peers.values():
            peer.start()
        for outcome in ("accepted", "sold_out"):
            loads = in_turn(peers, outcome, scale._replace(connections=CONNECTIONS), 0)
            cpu[outcome] = [[load.cpu["web"] for load in its] for its in loads.values()]
    finally:
        for peer in peers.values():
            peer.stop()
    cpu["accepted, without HTTP and Redis"] = alone = _alone(scale.rounds)
    rows = [
        (outcome, *(spread(each, ".1f") for each in both), f"{ratio(*both):.2f}")
        for outcome, both in cpu.items()
    ]
    added = statistics.median(a - b for a, b in zip(*alone, strict=True))
    head = ["outcome", *(f"{name}, web CPU µs" for name in peers), "ratio"]
    return Section("Metrics", table(head, rows), [
        Goal("CPU µs that counting adds to a request", added, MOST_US, at_most=True)
    ])


def _alone(rounds: int) -> list[list[float]]:
    """CPU µs of a request, counted and not counted, of each round."""
    printed = subprocess.run(
        [sys.executable, "-m", "bench.counting", str(rounds)], cwd=ROOT, capture_output=True,
        text=True, check=True,
    ).stdout
    pairs = [line.split() for line in printed.splitlines()]
    return [[float(pair[column]) for pair in pairs] for column in (0, 1)]
