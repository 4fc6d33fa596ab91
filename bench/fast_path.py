"""What the fast path gives: the service with it and without it, in turn."""

from pathlib import Path

from bench.peers import WORKER, Peer, gunicorn
from bench.report import Goal, Section, ratio, spread, table
from bench.requests import in_turn
from bench.scale import Scale

CONNECTIONS = (8, 64, 256)
#: Below this gain at 64 connections a second way to answer a request is not worth its lines.
WORTH = 1.25


def run(folder: Path, scale: Scale) -> Section:
    """Measure accepted and sold out at each number of connections."""
    peers = {
        "fast path": Peer("fast path", gunicorn("wsgi:app"), WORKER, folder / "with"),
        "Flask alone": Peer("Flask alone", gunicorn("bench.flask_alone:app"), WORKER,
                            folder / "without"),
    }
    rows, goals = [], []
    try:
        for peer in peers.values():
            peer.start()
        for outcome in ("accepted", "sold_out"):
            for connections in CONNECTIONS:
                loads = in_turn(peers, outcome, scale._replace(connections=connections), 0)
                answers = [[load.per_second for load in its] for its in loads.values()]
                gain = ratio(*answers)
                rows.append((outcome, connections, *map(spread, answers), f"{gain:.2f}"))
                if (outcome, connections) == ("accepted", 64):
                    goals.append(Goal("accepted/s of the fast path, to Flask alone", gain, WORTH))
    finally:
        for peer in peers.values():
            peer.stop()
    head = ["outcome", "connections", *(f"{name}, answers/s" for name in peers), "ratio"]
    return Section("The fast path", table(head, rows), goals)
