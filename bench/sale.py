"""A flash sale: far more users than coupons, all at once."""

import time
from pathlib import Path
from typing import NamedTuple

from bench.load import Load, send
from bench.peers import Peer, running
from bench.report import Section, spread, table
from bench.scale import Scale
from bench.services import FASTAPI, FASTIFY, LITERAL, OURS, services


class Sale(NamedTuple):
    """How a sale went; `defect` says what was not right, and makes the figures void."""

    load: Load | None
    seconds_to_last_coupon: float
    issued: int
    defect: str


def run(folder: Path, scale: Scale) -> Section:
    """Hold the sale with each service in turn."""
    peers = services(folder, OURS, FASTAPI, LITERAL, FASTIFY)
    sales: dict[str, list[Sale]] = {name: [] for name in peers}
    with running(*peers.values()):
        for _ in range(scale.sale_rounds):
            for name, peer in peers.items():
                sales[name].append(_hold(peer, scale))
    assert not any(sale.defect for sale in sales[OURS]), sales[OURS]
    text = (
        f"{scale.coupons:,} coupons, {scale.users:,} different users, {scale.crowd:,} "
        "connections; no request was lost or failed where it does not say so.\n\n"
    )
    return Section("A flash sale", text + table(
        ["service", "s to the last coupon", "s to the last answer", "p50 ms", "p99 ms", "issued"],
        [_row(name, its) for name, its in sales.items()],
    ), {})


def _hold(peer: Peer, scale: Scale) -> Sale:
    peer.register(scale.coupons)
    started = time.time()
    load, defect = None, ""
    try:
        load = send(peer, 120, scale.crowd, count=scale.users)
    except AssertionError as error:
        defect = f"requests failed: {error}"
    peer.settle()
    issued = peer.issued()
    if load and (issued, load.answers - load.refused) != (scale.coupons, scale.coupons):
        defect = f"accepted {load.answers - load.refused:,}, issued {issued:,}"
    return Sale(load, peer.last_issued() - started, issued, defect)


def _row(name: str, sales: list[Sale]) -> tuple[object, ...]:
    [issued, *others] = sorted({sale.issued for sale in sales})
    loads = [sale.load for sale in sales if sale.load and not sale.defect]
    shown = " ".join(f"{count:,}" for count in [issued, *others])
    if len(loads) < len(sales):
        defects = "; ".join(sorted({sale.defect for sale in sales if sale.defect}))
        return name, "void", "void", "void", "void", f"{shown} ({defects})"
    return (
        name, spread([sale.seconds_to_last_coupon for sale in sales], ".2f"),
        spread([load.answers / load.per_second for load in loads], ".2f"),
        spread([load.p50 / 1000 for load in loads]), spread([load.p99 / 1000 for load in loads]),
        shown,
    )
