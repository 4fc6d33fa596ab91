"""What counting the answers costs a request, without HTTP and Redis."""

import subprocess
import sys
from pathlib import Path

from bench.report import Section, spread, table
from bench.scale import Scale
from tests.processes import ROOT


def run(folder: Path, scale: Scale) -> Section:
    """Measure a request on the fast path counted and not counted, in turn."""
    printed = subprocess.run(
        [sys.executable, "-m", "bench.counting", str(scale.rounds)], cwd=ROOT, capture_output=True,
        text=True, check=True,
    ).stdout
    counted, plain = zip(*(map(float, line.split()) for line in printed.splitlines()), strict=True)
    added = [a - b for a, b in zip(counted, plain, strict=True)]
    return Section("Metrics", table(
        ["a request on the fast path, without HTTP and Redis", "CPU µs"],
        [("counted", spread(counted, ".1f")), ("not counted", spread(plain, ".1f"))],
    ), {"CPU µs that counting adds to a request": added})
