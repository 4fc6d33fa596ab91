"""`flask ledger`, as it is typed, and COUPON_LEDGER."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from coupon_service.cli.ledger import ledger
from coupon_service.config import Config
from coupon_service.errors import ConfigError
from coupon_service.ledger.sinks import open_sinks
from coupon_service.scripts import Registration
from tests.state import KEYS, config_with, coupons_on, drain, operations_on, scripts_on, worker_on


@pytest.fixture
def run(shared_server, real_client, monkeypatch, tmp_path):
    """Runs `flask ledger` with two sinks; returns exit code and output."""
    monkeypatch.setenv("REDIS_URL", shared_server.url)
    monkeypatch.setenv("COUPON_LEDGER", f"file:{tmp_path}/lines/,sqlite:///{tmp_path}/ledger.db")

    def run(*arguments):
        result = CliRunner().invoke(ledger, arguments)
        assert not result.exception or isinstance(result.exception, SystemExit), result.exception
        return result.exit_code, result.output

    return run


@pytest.fixture
def a_sale(real_client):
    coupons = coupons_on(real_client)
    coupons.register(Registration("A", 2), Registration("B", 2))
    for coupon in "AB":
        for user in ("u1", "u2"):
            coupons.request(coupon, user, f"r-{user}")
    drain(real_client, worker_on(real_client))
    return real_client


def test_copied_is_what_verify_finds_and_status_tells(run, a_sale, tmp_path):
    code, _ = run("copy")
    assert code == 0
    code, output = run("status", "--json")
    found = json.loads(output[output.index("["):])
    assert code == 0 and {each["sink"] for each in found} == {
        f"file:{tmp_path}/lines", f"sqlite:///{tmp_path}/ledger.db",
    }
    assert {(each["lag"], each["kind"]) for each in found} == {(0.0, "")}
    code, output = run("verify")
    assert code == 0 and output.count(": 0 differences") == 2
    files = sorted((tmp_path / "lines").glob("ledger-*.jsonl"))
    assert sum(len(file.read_text().splitlines()) for file in files) == 6


def test_verify_names_the_differences_of_one_sink(run, a_sale, tmp_path):
    run("copy")
    a_sale.hset(KEYS.coupon("A"), "quantity", 9)
    name = f"file:{tmp_path}/lines"
    assert run("verify", name) == (
        1, f"{name}: A: quantity is 2 in the ledger, and 9 in redis\n{name}: 1 differences\n"
    )


def test_forget_lets_the_log_be_trimmed(run, a_sale, tmp_path, monkeypatch):
    run("copy")
    name = f"file:{tmp_path}/lines"
    assert "take it out there first" in run("forget", name)[1]
    monkeypatch.setenv("COUPON_LEDGER", f"sqlite:///{tmp_path}/ledger.db")
    assert run("forget", name) == (0, "")
    assert run("forget", name)[0] == 1
    operations_on(a_sale).close("A")
    run("copy")
    scripts_on(a_sale).trim(1)
    assert a_sale.xlen(KEYS.of("A").log) == 1


def test_loss_is_shown_and_accepted_once(run, a_sale, tmp_path, monkeypatch):
    monkeypatch.setenv("COUPON_LEDGER", f"sqlite:///{tmp_path}/ledger.db")
    run("copy")
    a_sale.flushall()
    coupons_on(a_sale).register(Registration("A", 2))
    name = f"sqlite:///{tmp_path}/ledger.db"
    code, output = run("copy")
    assert code == 3 and "gone back" in output
    code, output = run("accept", name)  # nobody answers the question
    assert code == 1 and output.index('"decision": "issued"') < output.index("for good?")
    assert run("copy")[0] == 3
    code, output = run("accept", name, "--yes")
    assert code == 0 and output.count('"decision": "issued"') == 4
    assert run("copy")[0] == 0
    assert run("verify") == (0, f"{name}: 0 differences\n")
    assert run("accept", name, "--yes") == (0, "0 lines are lost\n")


def test_sink_that_fails_keeps_no_other_from_being_copied(run, a_sale, tmp_path, monkeypatch):
    (tmp_path / "in the way").write_text("")
    good = f"sqlite:///{tmp_path}/ledger.db"
    monkeypatch.setenv("COUPON_LEDGER", f"file:{tmp_path}/in the way,{good}")
    code, output = run("copy")
    assert code == 3 and "in the way" in output
    monkeypatch.setenv("COUPON_LEDGER", good)
    assert run("verify") == (0, f"{good}: 0 differences\n")


def test_sink_that_is_behind_is_a_difference(run, a_sale, tmp_path, monkeypatch):
    monkeypatch.setattr("coupon_service.cli.ledger.PATIENCE", 0.1)
    run("copy")
    operations_on(a_sale).close("A")
    code, output = run("verify", f"sqlite:///{tmp_path}/ledger.db")
    assert code == 1 and "is behind" in output


@pytest.mark.parametrize("url, text", [
    ("ftp://host/x", "'ftp' is no ledger"),
    ("postgresql://user:secret@host", "'postgresql' is no ledger"),
    ("sqlite://", "'sqlite' is no ledger"),
    ("file:", "'file' is no ledger"),
    ("nonsense", "'nonsense' is no ledger"),
    ("postgresql://user:secret@host:port/db", "'postgresql' is no ledger"),
    ("file:a,file:a/", "names a ledger twice"),
])
def test_bad_url_is_one_clear_line(run, monkeypatch, url, text):
    monkeypatch.setenv("COUPON_LEDGER", url)
    code, output = run("copy")
    assert code == 1 and text in output and "secret" not in output
    assert len(output.splitlines()) == 1


def test_ledger_without_its_packages_is_one_clear_line(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "sqlalchemy", None)
    with pytest.raises(ConfigError, match=r"pip install 'coupon-service\[ledger\]'"):
        open_sinks(Config(ledger=["sqlite:///x.db"]))
    assert open_sinks(Config(ledger=["file:x"]))[0].name == f"file:{Path.cwd()}/x"


def test_no_ledger_is_one_clear_line(run, monkeypatch):
    monkeypatch.delenv("COUPON_LEDGER")
    for command in ("copy", "verify", "follow"):
        assert run(command) == (1, "Error: COUPON_LEDGER is not set: there is no ledger\n")


def test_name_of_a_sink_has_no_password():
    url = "postgres://user:secret@db.example:5433/coupons?sslmode=require"
    [sink] = open_sinks(config_with(ledger=[url]))
    assert sink.name == "postgresql://db.example:5433/coupons"
