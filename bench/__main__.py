"""`python -m bench`: everything side by side, on this machine, in one go."""

import argparse
import platform
import shutil
import subprocess
import sys
import tempfile
import time
from importlib.metadata import version
from pathlib import Path

from bench import (
    dashboard,
    decisions,
    fast_path,
    growth,
    ledger,
    memory,
    metrics,
    partitions,
    removal,
    requests,
    sale,
)
from bench.load import require_tools
from bench.peers import PROCESSES, start_all
from bench.report import Section, goals_table
from bench.scale import FULL, QUICK, Scale
from coupon_service.cli.up import find_server

RESULTS = Path(__file__).parent / "RESULTS.md"
PACKAGES = ("flask", "gunicorn", "gevent", "redis", "hiredis", "marshmallow", "fastapi", "uvicorn",
            "uvloop", "httptools")


def main() -> None:
    """Measure, and write RESULTS.md unless only a quick look was asked for."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--quick", action="store_true",
                        help="less than 3 minutes: whether all works and is exact; no figures")
    quick = parser.parse_args().quick
    require_tools()
    started = time.time()
    sections = measure(QUICK if quick else FULL)
    for section in sections:
        print(f"\n## {section.title}\n\n{section.text}")
    print(f"\n{goals_table(sections)}")
    if quick:
        print("\nEverything ran and was exact; figures of so short a run mean nothing.")
    else:
        RESULTS.write_text(results(sections, time.time() - started), encoding="utf-8")


def measure(scale: Scale) -> list[Section]:
    """Run all parts; raises AssertionError where a run was not exact."""
    sections = []
    with tempfile.TemporaryDirectory() as folder:
        peers = start_all(Path(folder))
        try:
            for part in (requests, sale, decisions):
                _say(part.__name__)
                sections.append(part.run(peers, scale))
        finally:
            for peer in peers.values():
                peer.stop()
    for alone in (fast_path, metrics, dashboard, partitions, ledger, growth, removal, memory):
        _say(alone.__name__)
        with tempfile.TemporaryDirectory() as folder:
            sections.append(alone.run(Path(folder), scale))
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
        f"## Goals\n\n{goals_table(sections)}\n\n[docs/performance.md](../docs/performance.md) "
        "says where the time goes.",
        *(f"## {section.title}\n\n{section.text}" for section in sections),
    ]
    return "\n\n".join(parts) + "\n"


def _machine() -> str:
    lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    models = [line.partition(": ")[2] for line in lines if line.startswith("model name")]
    return f"{len(models)} × {models[0]}, Linux {platform.release()}"


def _versions() -> str:
    programs = [find_server(), "redis-benchmark", *(["node"] if shutil.which("node") else [])]
    said = []
    for program in programs:
        output = subprocess.run([program, "--version"], capture_output=True, text=True).stdout
        said.append(f"{Path(program).name}: {output.splitlines()[0]}")
    packages = ", ".join(f"{name} {version(name)}" for name in PACKAGES)
    return f"Python {platform.python_version()}, {packages}; {'; '.join(said)}."


def _say(part: str) -> None:
    print(f"{time.strftime('%H:%M:%S')} {part}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
