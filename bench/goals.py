"""What was aimed at: every figure with a bound, in one table."""

import statistics
from collections.abc import Iterable
from typing import NamedTuple

from bench.report import Section, spread, table


class Goal(NamedTuple):
    """At least `bound`, or at the most if `at_most`; without one the figure is only told."""

    bound: float | None
    at_most: bool = False

    def met(self, figures: list[float]) -> str:
        """Say whether the median of the rounds reaches it."""
        if self.bound is None:
            return ""
        median = statistics.median(figures)
        met = median <= self.bound if self.at_most else median >= self.bound
        return "yes" if met else "**no**"

    def __str__(self) -> str:
        return "" if self.bound is None else f"{'≤' if self.at_most else '≥'} {self.bound:g}"


_CONNECTIONS = (8, 64, 256)
#: At 8, 64 and 256 connections.
_BY_CONNECTIONS = {
    "accepted/s to FastAPI": (1.3, 2.0, 2.4),
    "sold out/s to FastAPI": (1.2, 1.9, 2.2),
    "status poll/s to FastAPI": (1.2, 1.5, 1.7),
    "accepted/s to a bare Flask route": (0.9, 1.3, 1.4),
    "accepted/s to Fastify": (None, 0.4, 0.45),
}
_MOST, _LEAST = "at the most issued to the least", "at the most campaigns to the least"
#: By the name of the figure, as the sections give it.
GOALS = {
    **{
        f"{name}, {connections} connections": Goal(bound)
        for name, bounds in _BY_CONNECTIONS.items()
        for connections, bound in zip(_CONNECTIONS, bounds, strict=True)
    },
    **{
        f"p99 at half of FastAPI's peak to FastAPI, {connections} connections": Goal(1.0, True)
        for connections in _CONNECTIONS
    },
    "decisions/s of one worker to literal": Goal(10),
    "decisions/s of one worker to redis-benchmark": Goal(0.6),
    "decisions/s of two workers to one": Goal(1.5),
    "bytes an issued user, libc": Goal(180, True),
    "bytes an issued user, jemalloc": Goal(None),
    **{
        f"{call} {sizes}, {allocator}": Goal(1.15 if allocator == "jemalloc" else None, True)
        for allocator in ("jemalloc", "libc")
        for sizes in (_MOST, _LEAST)
        for call in ("request", "decision", "status of a user")
    },
    # Below this a second way to answer a request is not worth its lines.
    "answers/s of the fast path to Flask alone, accepted, 64 connections": Goal(1.25),
    "answers/s of appendfsync always to no AOF, accepted, 64 connections": Goal(None),
    "web CPU of 16 partitions to 1 partition, accepted, 64 connections": Goal(1.1, True),
    "CPU µs that counting adds to a request": Goal(3, True),
    "µs of Redis that counting adds to a decision": Goal(0.3, True),
    **{
        f"Redis for {page} at {size} to 10 coupons": Goal(3, True)
        for page in ("overview", "one coupon", "system")
        for size in ("1,000 coupons", "many issuances")
    },
    "lines/s of file to executemany": Goal(0.8),
    "lines/s of sqlite to executemany": Goal(0.8),
    "lines/s of postgresql to executemany": Goal(0.8),
    "worker's CPU with a ledger to none": Goal(1.05, True),
    "ms to change the expiry of a large coupon": Goal(100, True),
    "ms to delete a large coupon": Goal(100, True),
    "ms that another client waits meanwhile": Goal(50, True),
    "s until a large coupon is removed": Goal(60, True),
    "memory at its peak meanwhile to before": Goal(1.1, True),
}


def goals_table(sections: Iterable[Section]) -> str:
    """Make the table of the goals of these sections, with what became of them."""
    figures = {name: figure for section in sections for name, figure in section.figures.items()}
    return table(
        ["goal", "wanted", "figure", "met", "with bare heads"],
        [
            (name, goal, spread(figures[name], ".2f"), goal.met(figures[name]),
             spread(figures[bare], ".2f") if (bare := f"{name}, bare heads") in figures else "")
            for name, goal in GOALS.items() if name in figures
        ],
    )


def missing(sections: Iterable[Section]) -> list[str]:
    """Give the goals for which these sections have no figure."""
    return [name for name in GOALS if not any(name in section.figures for section in sections)]
