"""`flask coupons reconcile`: recount, show, mend what is certain."""

import threading

import pytest
from click.testing import CliRunner

from coupon_service.cli import coupons as command
from coupon_service.reconcile import Reconciliation
from coupon_service.scripts import Declaration
from tests.conftest import CONFIG
from tests.state import KEYS, administration_on, coupons_on, drain, everything, scripts_on
from worker import Worker


@pytest.fixture
def a_campaign(real_client):
    """Coupon A: 5, of which 2 are issued and 2 pending; coupon B: untouched."""
    coupons = coupons_on(real_client)
    for coupon in ("A", "B"):
        coupons.register(Declaration(coupon, 5))
    for user in ("i1", "i2"):
        coupons.request("A", user, f"r-{user}")
    drain(real_client, Worker(real_client, CONFIG))
    for user in ("p1", "p2"):
        coupons.request("A", user, f"r-{user}")
    return real_client


@pytest.fixture
def run(shared_server, monkeypatch):
    monkeypatch.setenv("REDIS_URL", shared_server.url)

    def run(*arguments):
        result = CliRunner().invoke(command, ["reconcile", *arguments])
        return result.exit_code, result.output.splitlines()

    return run


def test_nothing_to_say_where_everything_agrees(a_campaign, run):
    before = everything(a_campaign)
    assert run() == (0, ["2 coupons, 0 disagreements, 0 left"])
    assert run("A", "--fix") == (0, ["1 coupons, 0 disagreements, 0 left"])
    assert everything(a_campaign) == before


def trimmed(client):
    client.xtrim(KEYS.requests, maxlen=0, approximate=False)


@pytest.mark.parametrize(
    "damage, lines",
    [
        (trimmed, ["request r-p1 of 'p1' is not on the stream",
                   "request r-p2 of 'p2' is not on the stream"]),
        (lambda client: client.incr(KEYS.requested("A")),
         ["requested is 5, but 2 are issued by the stock and 2 are pending"]),
        (lambda client: client.decr(KEYS.stock("A")),
         ["requested is 4, but 3 are issued by the stock and 2 are pending",
          "issuance marks: 2, but 3 are issued by the stock",
          "issued in the log: 2, but 3 are issued by the stock"]),
        (lambda client: client.delete(KEYS.user("A", "i1")),
         ["'i1' was issued by the log (…), without its mark",
          "issuance marks: 1, but 2 are issued by the stock"]),
        (lambda client: client.xtrim(KEYS.log, maxlen=1, approximate=False),
         ["issuance mark of 'i1' has no line in the log",
          "issued in the log: 1, but 2 are issued by the stock"]),
        (lambda client: client.set(KEYS.user("A", "x"), "issued"),
         ["issuance mark of 'x' has no line in the log",
          "issuance marks: 3, but 2 are issued by the stock"]),
    ],
    ids=["stream trimmed", "requested", "stock", "mark deleted", "log trimmed", "foreign mark"],
)
def test_every_disagreement_is_shown(a_campaign, run, damage, lines):
    damage(a_campaign)
    code, output = run()
    assert code == 1
    *shown, summary = output
    ids = {log_id for log_id, _ in a_campaign.xrange(KEYS.log)}
    for log_id in ids:
        shown = [line.replace(log_id, "…") for line in shown]
    assert shown == [f"A: {line}" for line in lines]
    assert summary == f"2 coupons, {len(lines)} disagreements, {len(lines)} left"
    assert run("B")[0] == 0


def test_cancelled_deleted_and_vanished_coupons_are_no_disagreement(a_campaign, run):
    coupons, administration = coupons_on(a_campaign), administration_on(a_campaign)
    administration.cancel("A", "i1")
    administration.cancel("A", "p1")
    assert run() == (0, ["2 coupons, 0 disagreements, 0 left"])
    coupons.request("A", "i1", "again")
    drain(a_campaign, Worker(a_campaign, CONFIG))
    assert run() == (0, ["2 coupons, 0 disagreements, 0 left"])
    administration.delete("A")
    coupons.register(Declaration("A", 1))
    coupons.register(Declaration("B", 5, {"expiresAt": 1_000_000_000_000}))
    assert run("A") == (0, ["1 coupons, 0 disagreements, 0 left"])
    assert run() == (0, ["2 coupons, 0 disagreements, 0 left"])


def test_cancelled_request_is_not_taken_for_the_issuance_whose_line_has_the_id_of_its_entry(
    a_campaign, run
):
    # Both streams give ids by the clock, so the same millisecond gives the same id.
    [(line, _), *_] = a_campaign.xrange(KEYS.log)
    [(_, fields), *_] = a_campaign.xrange(KEYS.requests)
    a_campaign.delete(KEYS.requests)
    a_campaign.xadd(KEYS.requests, fields, id=line)
    a_campaign.hset(KEYS.pending("A"), "p1", f"r-p1 {line}")
    a_campaign.hdel(KEYS.pending("A"), "p2")
    a_campaign.decr(KEYS.requested("A"))
    administration_on(a_campaign).cancel("A", "p1")
    assert run() == (0, ["2 coupons, 0 disagreements, 0 left"])


def test_fix_puts_a_lost_request_on_the_stream_again_and_it_is_issued(a_campaign, run):
    trimmed(a_campaign)
    code, output = run("--fix")
    assert code == 0
    assert output[0] == "A: request r-p1 of 'p1' is not on the stream (mended)"
    assert run() == (0, ["2 coupons, 0 disagreements, 0 left"])
    drain(a_campaign, Worker(a_campaign, CONFIG))
    assert coupons_on(a_campaign).user("A", "p1")["requestId"] == "r-p1"
    assert coupons_on(a_campaign).numbers("A")["issued"] == 4


def test_fix_leaves_alone_what_is_not_certain(a_campaign, run):
    a_campaign.incr(KEYS.requested("A"))
    before = everything(a_campaign)
    assert run("--fix")[0] == 1
    assert everything(a_campaign) == before


def test_dead_letter_is_sent_again_once_the_coupon_is_mended(a_campaign, run):
    a_campaign.set(KEYS.stock("A"), "abc")
    drain(a_campaign, Worker(a_campaign, CONFIG))
    assert a_campaign.xlen(KEYS.dead) == 2
    a_campaign.set(KEYS.stock("A"), "3")
    assert run("--fix")[0] == 0
    drain(a_campaign, Worker(a_campaign, CONFIG))
    assert run() == (0, ["2 coupons, 0 disagreements, 0 left"])
    assert coupons_on(a_campaign).user("A", "p2")["status"] == "issued"


def test_running_service_is_not_taken_for_a_disagreement(real_client):
    """Requests are admitted and decided all the time while the records are read."""
    coupons = coupons_on(real_client)
    coupons.register(Declaration("A", 100_000))
    worker = Worker(real_client, CONFIG)
    done = threading.Event()

    def serve():
        number = 0
        while not done.is_set():
            for _ in range(20):
                number += 1
                coupons.request("A", f"u{number}", "r")
            worker.run_once()

    serving = threading.Thread(target=serve)
    serving.start()
    try:
        for _ in range(30):
            reconciliation = Reconciliation(real_client, KEYS, scripts_on(real_client), ["A"])
            assert list(reconciliation.run(fix=False)) == []
    finally:
        done.set()
        serving.join()
    assert coupons.numbers("A")["issued"] > 100


def test_unknown_coupon_and_silent_redis_are_one_line(a_campaign, run, monkeypatch):
    assert run("NONE") == (1, ["Error: not registered: NONE"])
    monkeypatch.setenv("REDIS_URL", "redis://127.0.0.1:1/0")
    code, [line] = run()
    assert code == 3 and line.startswith("Error: unavailable: ")
