"""Services that take turns under load, and what is told of each."""

import statistics
from collections.abc import Callable

from bench.load import POLLED, Load, send
from bench.peers import PLENTY, Peer
from bench.report import ratios, spread
from bench.scale import Scale
from tests.processes import wait_until

#: Users that have a place before the load: those who are polled; the one who takes the last coupon.
_BEFORE = {"accepted": 0, "sold out": 1, "status poll": POLLED}

Loads = dict[str, list[Load]]


def warm(peers: dict[str, Peer], scale: Scale) -> None:
    """Load each service once, because the first answers of a process take longer; a single round
    is not worth it."""
    if scale.rounds > 1:
        for peer in peers.values():
            _measure(peer, "accepted", scale.connections[-1], 1, "browser", 0)


def in_turn(
    peers: dict[str, Peer], outcome: str, connections: int, scale: Scale,
    heads: str = "browser", rate: int = 0,
) -> Loads:
    """Measure the services A B C A B C …

    Args:
        peers: running services by name.
        outcome: of every request: "accepted", "sold out" or "status poll".
        connections, heads, rate: as for `load.send`.

    Returns:
        By name, the load of each round.
    """
    loads: Loads = {name: [] for name in peers}
    for _ in range(scale.rounds):
        for name, peer in peers.items():
            loads[name].append(_measure(peer, outcome, connections, scale.seconds, heads, rate))
    return loads


def _measure(
    peer: Peer, outcome: str, connections: int, seconds: int, heads: str, rate: int
) -> Load:
    """Load one service for a while; raises AssertionError if its data is not exact then."""
    peer.register(1 if outcome == "sold out" else PLENTY)
    before = _BEFORE[outcome]
    if before:
        peer.admit(range(before))
        wait_until(lambda: not peer.backlog(), f"the decisions of {peer.name}")
    polls = outcome == "status poll"
    if polls:
        peer.assert_polls()
    load = send(
        peer, seconds, connections, kind="poll" if polls else "request", heads=heads, rate=rate
    )
    if outcome == "accepted":
        peer.settle()
    peer.assert_exact()
    assert load.refused == (load.answers if outcome == "sold out" else 0), (peer.name, load)
    if peer.promises:
        answered = load.answers if outcome == "accepted" else 0
        # Of those that wrk left without an answer at its end, any may have been accepted.
        unanswered = connections if outcome == "accepted" else 0
        assert 0 <= peer.issued() - before - answered <= unanswered, (peer.name, load)
    return load


def compared(loads: Loads, value: Callable[[Load], float]) -> dict[str, list[float]]:
    """Give by name the ratios of the first service to each of the others, round by round."""
    first, *others = loads
    return {
        other: ratios(*([value(load) for load in loads[name]] for name in (first, other)))
        for other in others
    }


def per_second(load: Load) -> float:
    """Give the answers a second."""
    return load.per_second


def head(loads: Loads) -> list[str]:
    """Make the head of a table of `rows`."""
    return ["", "service", "answers/s", f"{next(iter(loads))} to it", "web µs", "redis µs",
            "worker µs", "wrk µs", "p50 ms", "p99 ms"]


def rows(what: str, loads: Loads) -> list[tuple[str, ...]]:
    """Make a row of a table for each service; `what` it was asked is in the first column."""
    to_it = compared(loads, per_second)
    return [
        (
            what, name, spread([load.per_second for load in its]),
            spread(to_it[name], ".2f") if name in to_it else "",
            *(
                f"{statistics.median(load.cpu[part] for load in its):.0f}"
                if part in its[0].cpu else ""
                for part in ("web", "redis", "worker", "wrk")
            ),
            f"{statistics.median(load.p50 for load in its) / 1000:.1f}",
            spread([load.p99 / 1000 for load in its], ".1f"),
        )
        for name, its in loads.items()
    ]
