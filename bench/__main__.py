"""`python -m bench`: everything side by side, on this machine, in one go."""

import argparse
import platform
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from importlib.metadata import version
from pathlib import Path

from bench import (
    dashboard,
    decisions,
    growth,
    ledger,
    memory,
    metrics,
    removal,
    requests,
    sale,
    variants,
)
from bench.filling import programs
from bench.goals import goals_table, missing
from bench.load import require_tools
from bench.peers import PROCESSES
from bench.report import Section
from bench.scale import FULL, QUICK, Scale

RESULTS = Path(__file__).parent / "RESULTS.md"
PACKAGES = ("flask", "gunicorn", "gevent", "redis", "hiredis", "marshmallow", "fastapi", "uvicorn",
            "uvloop", "httptools")
#: In the order of the results.
SECTIONS: dict[str, Callable[[Path, Scale], Section]] = {
    "requests": requests.run, "sale": sale.run, "decisions": decisions.run, **variants.RUNS,
    "metrics": metrics.run, "dashboard": dashboard.run, "ledger": ledger.run, "growth": growth.run,
    "removal": removal.run, "memory": memory.run,
}


def main() -> None:
    """Measure, and write RESULTS.md unless only a quick look or a part was asked for."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("sections", nargs="*", metavar="section",
                        help=f"only these, nothing is written: {', '.join(SECTIONS)}")
    parser.add_argument("--quick", action="store_true",
                        help="a minute and a half: whether all works and is exact; no figures")
    arguments = parser.parse_args()
    if unknown := set(arguments.sections) - SECTIONS.keys():
        parser.error(f"no such section: {', '.join(sorted(unknown))}")
    require_tools()
    started = time.time()
    names = arguments.sections or SECTIONS
    sections = measure(names, QUICK if arguments.quick else FULL)
    for section in sections:
        print(f"\n## {section.title}\n\n{section.text}")
    print(f"\n{goals_table(sections)}")
    if arguments.quick:
        print("\nEverything ran and was exact; figures of so short a run mean nothing.")
    elif names is SECTIONS:
        RESULTS.write_text(results(sections, time.time() - started), encoding="utf-8")


def measure(names: Iterable[str], scale: Scale) -> list[Section]:
    """Run sections by name; raises AssertionError where a run was not exact."""
    sections = []
    for name in names:
        print(f"{time.strftime('%H:%M:%S')} {name}", file=sys.stderr, flush=True)
        with tempfile.TemporaryDirectory() as folder:
            sections.append(SECTIONS[name](Path(folder), scale))
    return sections


def results(sections: list[Section], seconds: float) -> str:
    """Make the text of RESULTS.md."""
    parts = [
        "# Results",
        f"Written by `python -m bench` on {time.strftime('%Y-%m-%d')}, in {seconds / 60:.0f} "
        "minutes. Figures are medians of the rounds, in brackets the least and the greatest; "
        "ratios are medians of the ratios of each round. The services take turns within a round. "
        "After each run the data was checked: what does not add up stops everything, but for "
        "literal, whose figures are void then. CPU times are those of all processes of a kind, "
        "user and system, for each answer.",
        f"{_machine()}; {PROCESSES} processes of each service and one worker, one Redis server "
        "each, all of them and wrk on this machine.",
        _versions(),
        f"## Goals\n\n{goals_table(sections)}\n\n{_not_measured(sections)}"
        "[docs/performance.md](../docs/performance.md) says where the time goes.",
        *(f"## {section.title}\n\n{section.text}" for section in sections),
    ]
    return "\n\n".join(parts) + "\n"


def _not_measured(sections: list[Section]) -> str:
    names = missing(sections)
    return f"Not measured on this machine: {'; '.join(names)}.\n\n" if names else ""


def _machine() -> str:
    lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    models = [line.partition(": ")[2] for line in lines if line.startswith("model name")]
    return f"{len(models)} × {models[0]}, Linux {platform.release()}"


def _versions() -> str:
    said = []
    for program in (*programs().values(), "redis-benchmark", *filter(None, [shutil.which("node")])):
        output = subprocess.run([program, "--version"], capture_output=True, text=True).stdout
        said.append(f"{Path(program).name}: {output.splitlines()[0]}")
    packages = ", ".join(f"{name} {version(name)}" for name in PACKAGES)
    return f"Python {platform.python_version()}, {packages}; {'; '.join(said)}."


if __name__ == "__main__":
    main()
