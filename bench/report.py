"""Medians, ratios and tables, as Markdown."""

import statistics
from collections.abc import Iterable, Sequence
from typing import NamedTuple


class Section(NamedTuple):
    """A part of the results; `figures` has by name what bench/goals.py may have a bound for, a
    value for each round."""

    title: str
    text: str
    figures: dict[str, list[float]]


def ratios(these: Sequence[float], those: Sequence[float]) -> list[float]:
    """Give the ratio of each round: what slows a round down slows both."""
    return [a / b for a, b in zip(these, those, strict=True)]


def spread(values: Sequence[float], form: str = ",.0f") -> str:
    """Give the median, and of several values the least and the greatest."""
    median = f"{statistics.median(values):{form}}"
    if len(values) == 1:
        return median
    return f"{median} ({min(values):{form}}–{max(values):{form}})"


def table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Make a Markdown table."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(map(str, line)) + " |" for line in lines)
