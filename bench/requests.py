"""What requests and status polls cost, of each service in turn."""

import statistics
from pathlib import Path

from bench.peers import Peer, running
from bench.report import Section, table
from bench.scale import Scale
from bench.services import FASTAPI, FASTIFY, FLOOR, LITERAL, OURS, services
from bench.turns import compared, head, in_turn, per_second, rows, warm

#: By heads: what is asked, and of which services.
_ASKED = {
    "browser": {
        "accepted": (OURS, FASTAPI, LITERAL, FLOOR, FASTIFY),
        "sold out": (OURS, FASTAPI, LITERAL, FASTIFY),
        "status poll": (OURS, FASTAPI, LITERAL, FASTIFY),
    },
    "bare": {
        "accepted": (OURS, FASTAPI, FLOOR),
        "sold out": (OURS, FASTAPI),
        "status poll": (OURS, FASTAPI),
    },
}
#: What the name of a figure ends with.
_SUFFIX = {"browser": "", "bare": ", bare heads"}
_INTRODUCTION = (
    "Each connection has one request at a time. A browser's heads have 16 fields with a request "
    "and 14 with a poll, as Chrome sends them to the origin of its page; bare ones, which wrk "
    "sends by itself, have three and one. Each poll is that of one of 1,000 users who have their "
    "coupon. At half of FastAPI's peak the requests come at random intervals, as many to each."
)


def run(folder: Path, scale: Scale) -> Section:
    """Measure each number of connections with both heads."""
    peers = services(folder, OURS, FASTAPI, LITERAL, FLOOR, FASTIFY)
    texts, figures = [_INTRODUCTION], dict[str, list[float]]()
    with running(*peers.values()):
        warm(peers, scale)
        for heads in _ASKED:
            for connections in scale.connections:
                text, its_figures = _measure(peers, heads, connections, scale)
                texts += [f"### {connections} connections, {heads} heads", text]
                figures |= its_figures
    return Section("Requests", "\n\n".join(texts), figures)


def _measure(
    peers: dict[str, Peer], heads: str, connections: int, scale: Scale
) -> tuple[str, dict[str, list[float]]]:
    its_rows, figures = [], dict[str, list[float]]()
    where = f"{connections} connections{_SUFFIX[heads]}"
    for outcome, names in _ASKED[heads].items():
        asked = {name: peers[name] for name in names if name in peers}
        loads = in_turn(asked, outcome, connections, scale, heads)
        its_rows += rows(outcome, loads)
        for name, figure in compared(loads, per_second).items():
            figures[f"{outcome}/s to {name}, {where}"] = figure
        if outcome == "accepted":
            peak = statistics.median(map(per_second, loads[FASTAPI]))
    if heads == "browser":
        pair = {name: peers[name] for name in (OURS, FASTAPI)}
        loads = in_turn(pair, "accepted", connections, scale, heads, rate=round(peak / 2))
        its_rows += rows("accepted, at half of FastAPI's peak", loads)
        p99 = compared(loads, lambda load: load.p99)[FASTAPI]
        figures[f"p99 at half of FastAPI's peak to FastAPI, {where}"] = p99
    return table(head(loads), its_rows), figures
