"""Medians, ratios, tables and goals, as Markdown."""

import statistics
from collections.abc import Iterable, Sequence
from typing import NamedTuple


class Goal(NamedTuple):
    """A figure that was aimed at, mostly a ratio: at least `bound`, or at the most if `at_most`."""

    text: str
    ratio: float
    bound: float
    at_most: bool = False

    @property
    def met(self) -> bool:
        """Whether the run has reached it."""
        return self.ratio <= self.bound if self.at_most else self.ratio >= self.bound


class Section(NamedTuple):
    """A part of the results."""

    title: str
    text: str
    goals: list[Goal]


def ratio(these: Sequence[float], those: Sequence[float]) -> float:
    """Give the median of the ratios, round by round: what slows a round down slows both."""
    return statistics.median(a / b for a, b in zip(these, those, strict=True))


def spread(values: Sequence[float], form: str = ",.0f") -> str:
    """Give the median, and the least and the greatest of the values."""
    least, most = min(values), max(values)
    return f"{statistics.median(values):{form}} ({least:{form}}–{most:{form}})"


def table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Make a Markdown table."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(map(str, line)) + " |" for line in lines)


def goals_table(sections: Iterable[Section]) -> str:
    """Make the table of all goals, with what became of them."""
    return table(
        ["goal", "ratio", "wanted", "met"],
        [
            (goal.text, f"{goal.ratio:.2f}", f"{'≤' if goal.at_most else '≥'} {goal.bound:g}",
             "yes" if goal.met else "**no**")
            for section in sections for goal in section.goals
        ],
    )
