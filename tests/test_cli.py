"""`flask coupons`: what administrators do from the command line."""

import fcntl
import csv
import io
import json

import pytest
from click.testing import CliRunner

from coupon_service.cli.coupons import coupons as command
from coupon_service.scripts import Registration
from tests.state import KEYS, assert_consistent, coupons_on, drain, everything, worker_on


@pytest.fixture
def run(shared_server, real_client, monkeypatch):
    monkeypatch.setenv("REDIS_URL", shared_server.url)

    def run(*arguments, **options):
        result = CliRunner().invoke(command, arguments, **options)
        return result.exit_code, result.output

    return run


@pytest.fixture
def issued(real_client):
    """Coupon A: 3, issued to u1 and =u2."""
    coupons = coupons_on(real_client)
    coupons.register(Registration("A", 3))
    for user in ("u1", "=u2"):
        coupons.request("A", user, f"r-{user}")
        drain(real_client, worker_on(real_client))


def test_register_declares_and_tops_up(run, real_client):
    assert run("register", "A", "5") == (
        0, "couponId       A\nquantity       5\nstock          5\nrequested      0\n",
    )
    assert json.loads(run("register", "A", "7", "--json")[1])["stock"] == 7


def test_register_changes_only_the_part_of_the_window_that_is_named(run):
    run("register", "A", "5", "--opens-at", "2030-01-01T00:00:00Z",
        "--closes-at", "2030-01-02T09:00:00+09:00")
    run("register", "A", "5", "--opens-at", "none")
    numbers = json.loads(run("show", "A", "--json")[1])
    assert numbers["opensAt"] is None
    assert numbers["closesAt"] == "2030-01-02T00:00:00.000Z"


def test_list_shows_all_coupons(run, issued, real_client):
    coupons_on(real_client).register(Registration("LONGER-NAME", 10))
    assert run("list") == (0, (
        "couponId     state  quantity  stock  requested  issued  pending\n"
        "A            open   3         1      2          2       0\n"
        "LONGER-NAME  open   10        10     0          0       0\n"
    ))
    assert [coupon["couponId"] for coupon in json.loads(run("list", "--json")[1])] == [
        "A", "LONGER-NAME",
    ]


def test_show_tells_the_numbers(run, issued):
    code, output = run("show", "A")
    assert code == 0
    assert "state          open\n" in output
    assert "refusals       duplicate=0 sold_out=0 not_open=0 closed=0\n" in output


def test_close_cancel_and_delete(run, issued, real_client):
    assert run("close", "A")[0] == 0
    assert "requestStatus  issued" in run("cancel", "A", "u1")[1]
    assert_consistent(real_client, "A")
    code, output = run("delete", "A", input="n\n")
    assert code == 1 and real_client.exists(KEYS.coupon("A"))
    assert run("delete", "A", "--yes")[0] == 0
    assert set(everything(real_client)) <= {KEYS.requests, KEYS.log}


def test_export_writes_csv(run, issued, tmp_path):
    code, output = run("export", "A")
    assert code == 0
    head, *rows = csv.reader(io.StringIO(output))
    assert head[:2] == ["couponId", "userId"]
    assert [row[1] for row in rows] == ["=u2", "u1"]
    assert "A,'=u2,r-=u2," in run("export", "A", "--safe")[1]
    file = tmp_path / "issuances.csv"
    assert run("export", "A", "--output", str(file)) == (0, "")
    assert file.read_text(encoding="utf-8").splitlines() == output.splitlines()


@pytest.mark.parametrize(
    "arguments", [("show",), ("close",), ("delete", "--yes"), ("export",), ("cancel", "u")]
)
def test_unknown_coupon_is_one_line_and_exit_code_1(run, arguments):
    name, *others = arguments
    code, output = run(name, "NONE", *others)
    assert (code, output) == (1, "Error: unknown_coupon: no coupon NONE is registered\n")


def test_refusal_is_one_line_and_exit_code_1(run, issued):
    code, output = run("register", "A", "1")
    assert code == 1 and output.startswith("Error: quantity_too_low: ")


@pytest.mark.parametrize(
    "arguments",
    [
        ("register", "A", "0"), ("register", "a b", "1"), ("register", "A", "x"),
        ("register", "A", "1", "--opens-at", "tomorrow"),
        ("register", "A", "1", "--opens-at", "2030-01-01T00:00:00"), ("cancel", "A", ""),
        ("register", "A", "1", "--expires-at", "9999-12-31T23:59:59-12:00"),
        ("register", "..", "1"), ("register", "request", "1"), ("cancel", "A", "a\n"),
    ],
)
def test_wrong_usage_is_exit_code_2_and_changes_nothing(run, real_client, arguments):
    assert run(*arguments)[0] == 2
    assert everything(real_client) == {}


def test_silent_redis_is_one_line_and_exit_code_3(run, monkeypatch):
    monkeypatch.setenv("REDIS_URL", "redis://127.0.0.1:1/0")
    for arguments in (("list",), ("show", "A"), ("export", "A"), ("register", "A", "1")):
        code, output = run(*arguments)
        assert code == 3 and output.startswith("Error: unavailable: ") and output.count("\n") == 1


def test_cancel_of_a_named_request(run, issued, real_client):
    code, output = run("cancel", "A", "u1", "--request-id", "another")
    assert (code, output) == (
        1, "Error: not_requested: this user has no such request for A\n",
    )
    assert run("cancel", "A", "u1", "--request-id", "r-u1")[0] == 0


def test_corrupt_coupon_is_named_and_the_others_are_listed(run, issued, real_client):
    coupons_on(real_client).register(Registration("B", 10))
    real_client.set(KEYS.stock("A"), "abc")
    code, output = run("list")
    assert code == 0
    assert [line.split() for line in output.splitlines()[1:]] == [
        ["A", "corrupt", "-", "-", "-", "-", "-"], ["B", "open", "10", "10", "0", "0", "0"],
    ]
    code, output = run("show", "A")
    assert code == 1
    assert output.startswith("Error: corrupt_data: the stored data of A is corrupt (")


def test_without_redis_url_the_server_that_is_used_is_named(
    run, monkeypatch, tmp_path, shared_server
):
    monkeypatch.delenv("REDIS_URL")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("coupon_service.config.DEFAULT_REDIS_URL", "redis://127.0.0.1:1/0")
    code, output = run("list")
    assert code == 3
    assert output.splitlines()[0] == "REDIS_URL is not set: using redis://127.0.0.1:1/0"
    # What `flask up` leaves while it runs.
    (tmp_path / "instance").mkdir()
    (tmp_path / "instance" / "redis-url").write_text(shared_server.url)
    lock = (tmp_path / "instance" / "lock").open("w")
    fcntl.flock(lock, fcntl.LOCK_EX)
    code, output = run("list")
    assert code == 0
    assert output.splitlines()[0] == f"REDIS_URL is not set: using {shared_server.url}"


@pytest.mark.parametrize(
    "name, value", [("COUPON_WORKER_BATCH", "0"), ("REDIS_URL", "localhost:6379")]
)
def test_wrong_setting_is_one_line(run, monkeypatch, name, value):
    monkeypatch.setenv(name, value)
    code, output = run("list")
    assert code == 1
    assert output.startswith("Error: ") and name in output and output.count("\n") == 1


def test_coupon_of_an_id_that_is_refused_by_now_can_be_administered(run, real_client):
    coupons_on(real_client).register(Registration("request", 3))
    assert run("show", "request")[0] == 0
    assert run("delete", "request", "--yes")[0] == 0
    assert run("list") == (0, "couponId  state  quantity  stock  requested  issued  pending\n")
