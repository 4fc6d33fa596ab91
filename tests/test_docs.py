"""What the documents name exists."""

import re

import pytest

from tests.processes import ROOT

TESTS = "\n".join(file.read_text(encoding="utf-8") for file in (ROOT / "tests").rglob("test_*.py"))


def test_every_row_of_the_fault_table_names_a_test_that_exists():
    text = (ROOT / "docs" / "reliability.md").read_text(encoding="utf-8")
    table = text.split("## Faults")[1].split("\n## ")[0]
    rows = [line for line in table.splitlines() if line.startswith("| ")][1:]
    rows = [row for row in rows if not row.startswith("| ---")]
    assert len(rows) > 10
    for row in rows:
        [name] = re.findall(r"`(test_\w+)`", row.split("|")[-2])
        assert f"def {name}(" in TESTS, name


@pytest.mark.parametrize("page", ["reliability", "original", "performance", "development"])
def test_every_test_that_is_named_exists(page):
    text = (ROOT / "docs" / f"{page}.md").read_text(encoding="utf-8")
    named = set(re.findall(r"`(test_\w+)`", text))
    assert [name for name in named if f"def {name}(" not in TESTS] == []


def test_architecture_names_every_script():
    text = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    scripts = {file.name for file in (ROOT / "coupon_service" / "lua").glob("*.lua")}
    assert scripts == set(re.findall(r"^\| `(\w+\.lua)` \|", text, re.MULTILINE))


def test_architecture_shows_the_layers_that_are_held():
    from tests.test_architecture import LAYERS

    text = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    block = text.split("## The house")[1].split("```")[1]
    shown = [set(re.split(r",\s*", line)) for line in block.strip().splitlines()]
    assert shown == LAYERS[::-1]
