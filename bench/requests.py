"""What a request costs: accepted, duplicate and sold out, of each service in turn."""

import statistics

from bench.load import Load, send
from bench.peers import PLENTY, Peer
from bench.report import Goal, Section, ratio, spread, table
from bench.scale import Scale

OUTCOMES = ("accepted", "duplicate", "sold_out")
OURS, FLOOR, LITERAL, ASYNC = "coupon-service", "floor", "literal", "async"

Loads = dict[str, list[Load]]


def run(peers: dict[str, Peer], scale: Scale) -> Section:
    """Measure every outcome, and the latency at half of the load that async can take."""
    for peer in peers.values():
        measure(peer, "accepted", scale)  # warm
    loads = {
        outcome: in_turn(peers, outcome, scale, pause_ms=0) for outcome in OUTCOMES
    }
    accepted, sold_out = loads["accepted"], loads["sold_out"]
    peak = statistics.median(load.per_second for load in accepted[ASYNC])
    pause_ms = round(1000 * scale.connections / (peak / 2))
    gentle = in_turn(
        {name: peer for name, peer in peers.items() if name != FLOOR},
        "accepted", scale, pause_ms=pause_ms,
    )
    text = f"{scale.connections} connections, each with one request at a time.\n\n"
    text += "\n\n".join(f"### {outcome}\n\n{_rows(loads[outcome])}" for outcome in OUTCOMES)
    text += (
        f"\n\n### accepted, at half of async's peak\n\nEach connection pauses {pause_ms} ms "
        f"between requests, on average.\n\n{_rows(gentle)}"
    )

    def compared(loads: Loads, peer: str) -> float:
        return ratio(*([load.per_second for load in loads[name]] for name in (OURS, peer)))

    return Section("Requests", text, [
        Goal("accepted/s, to async", compared(accepted, ASYNC), 1.0),
        Goal("accepted/s, to literal", compared(accepted, LITERAL), 1.8),
        Goal("sold out/s, to async", compared(sold_out, ASYNC), 1.2),
        Goal("sold out/s, to floor", compared(sold_out, FLOOR), 0.9),
        Goal("web CPU of an accepted request, to floor",
             ratio(*([load.cpu["web"] for load in accepted[name]] for name in (OURS, FLOOR))),
             1.5, at_most=True),
        Goal("p99 at half of async's peak, to async",
             ratio(*([load.p99 for load in gentle[name]] for name in (OURS, ASYNC))),
             1.0, at_most=True),
    ])


def in_turn(peers: dict[str, Peer], outcome: str, scale: Scale, pause_ms: int) -> Loads:
    """Measure the services A B C A B C …"""
    loads: Loads = {name: [] for name in peers}
    for _ in range(scale.rounds):
        for name, peer in peers.items():
            loads[name].append(measure(peer, outcome, scale, pause_ms))
    return loads


def measure(peer: Peer, outcome: str, scale: Scale, pause_ms: int = 0) -> Load:
    """Load one service for a while; raises AssertionError if its data is not exact then."""
    peer.register(1 if outcome == "sold_out" else PLENTY)
    before = 0
    if outcome != "accepted":
        peer.admit("holder")
        peer.settle()
        before = peer.issued()
    load = send(
        peer, scale.seconds, scale.connections, user="holder" if outcome == "duplicate" else "",
        pause_ms=pause_ms,
    )
    peer.settle()
    peer.assert_exact()
    if outcome == "accepted" or not peer.refuses(outcome):
        assert load.refused == 0, (peer.name, load)
    else:
        assert load.refused == load.answers, (peer.name, load)
    if peer.promises:
        # Of those that wrk left without an answer at its end, any may have been accepted.
        accepted = peer.issued() - before
        assert 0 <= accepted - (load.answers - load.refused) <= scale.connections, peer.name
    return load


def _rows(loads: Loads) -> str:
    return table(
        ["service", "answers/s", "web µs", "redis µs", "worker µs", "wrk µs", "p50 ms", "p99 ms"],
        [
            (
                name, spread([load.per_second for load in its]),
                *(
                    f"{statistics.median(load.cpu[part] for load in its):.0f}"
                    if part in its[0].cpu else ""
                    for part in ("web", "redis", "worker", "wrk")
                ),
                f"{statistics.median(load.p50 for load in its) / 1000:.1f}",
                spread([load.p99 / 1000 for load in its], ".1f"),
            )
            for name, its in loads.items()
        ],
    )
