"""`flask coupons reconcile`: recount, show, repair what is certain."""

import threading

import pytest
from click.testing import CliRunner

from coupon_service.cli.coupons import coupons as command
from coupon_service.keys import GROUP
from coupon_service.admin.reconcile import Reconciliation
from coupon_service.scripts import Registration
from tests.state import (
    KEYS,
    coupons_on,
    drain,
    everything,
    installation_on,
    operations_on,
    scripts_on,
    worker_on,
)


@pytest.fixture
def a_campaign(real_client):
    """Coupon A: 5, of which 2 are issued and 2 pending; coupon B: untouched."""
    coupons = coupons_on(real_client)
    for coupon in ("A", "B"):
        coupons.register(Registration(coupon, 5))
    for user in ("i1", "i2"):
        coupons.request("A", user, f"r-{user}")
    drain(real_client, worker_on(real_client))
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
        (trimmed, ["request r-p1 of 'p1' will be read by no worker",
                   "request r-p2 of 'p2' will be read by no worker"]),
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
         ["no issuance names the mark of 'x'",
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


def test_cancelled_deleted_and_removed_coupons_are_no_disagreement(a_campaign, run):
    coupons, operations = coupons_on(a_campaign), operations_on(a_campaign)
    operations.cancel("A", "i1")
    operations.cancel("A", "p1")
    assert run() == (0, ["2 coupons, 0 disagreements, 0 left"])
    coupons.request("A", "i1", "again")
    drain(a_campaign, worker_on(a_campaign))
    assert run() == (0, ["2 coupons, 0 disagreements, 0 left"])
    operations.delete("A")
    coupons.register(Registration("A", 1))
    a_campaign.zadd(KEYS.of("B").removals, {"B": 1})
    installation_on(a_campaign, "B").removal.remove_page("B")
    assert run("A") == (0, ["1 coupons, 0 disagreements, 0 left"])
    assert run() == (0, ["1 coupons, 0 disagreements, 0 left"])


@pytest.mark.parametrize("keep", range(1, 6))
def test_trimmed_part_of_the_log_is_no_disagreement(a_campaign, run, keep):
    scripts, operations = scripts_on(a_campaign), operations_on(a_campaign)
    scripts.trim(keep)
    assert run() == (0, ["2 coupons, 0 disagreements, 0 left"])
    operations.cancel("A", "i1")
    operations.cancel("A", "p1")
    assert run() == (0, ["2 coupons, 0 disagreements, 0 left"])
    scripts.trim(keep)
    assert run() == (0, ["2 coupons, 0 disagreements, 0 left"])
    a_campaign.delete(KEYS.user("A", "i2"))
    code, output = run("A")
    assert code == 1 and "A: issuance marks: 0, but 1 are issued by the stock" in output


def test_log_that_is_trimmed_while_it_is_read_is_no_disagreement(a_campaign):
    def trim_first(*arguments, **options):
        if arguments[0] == KEYS.of("A").log and arguments[1] == "-":
            scripts_on(a_campaign).trim(1)
        return a_campaign.xrange(*arguments, **options)

    reconciliation = Reconciliation(installation_on(a_campaign), ["A"])
    reconciliation._client = Overridden(a_campaign, xrange=trim_first)
    assert list(reconciliation.run(fix=False)) == []
    assert a_campaign.xlen(KEYS.of("A").log) == 1


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
    operations_on(a_campaign).cancel("A", "p1")
    assert run() == (0, ["2 coupons, 0 disagreements, 0 left"])


def test_fix_puts_a_lost_request_on_the_stream_again_and_it_is_issued(a_campaign, run):
    trimmed(a_campaign)
    code, output = run("--fix")
    assert code == 0
    assert output[0] == "A: request r-p1 of 'p1' will be read by no worker (repaired)"
    assert run() == (0, ["2 coupons, 0 disagreements, 0 left"])
    drain(a_campaign, worker_on(a_campaign))
    assert coupons_on(a_campaign).user("A", "p1")["requestId"] == "r-p1"
    assert coupons_on(a_campaign).snapshot("A")["issued"] == 4


def test_fix_leaves_alone_what_is_not_certain(a_campaign, run):
    a_campaign.incr(KEYS.requested("A"))
    before = everything(a_campaign)
    assert run("--fix")[0] == 1
    assert everything(a_campaign) == before


def test_dead_letter_is_sent_again_once_the_coupon_is_repaired(a_campaign, run):
    a_campaign.set(KEYS.stock("A"), "abc")
    drain(a_campaign, worker_on(a_campaign))
    assert a_campaign.xlen(KEYS.dead) == 2
    a_campaign.set(KEYS.stock("A"), "3")
    assert run("--fix")[0] == 0
    drain(a_campaign, worker_on(a_campaign))
    assert run() == (0, ["2 coupons, 0 disagreements, 0 left"])
    assert coupons_on(a_campaign).user("A", "p2")["status"] == "issued"


def test_running_service_is_not_taken_for_a_disagreement(real_client):
    """Requests are admitted and decided all the time while the records are read."""
    coupons = coupons_on(real_client)
    coupons.register(Registration("A", 100_000))
    worker = worker_on(real_client)
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
            reconciliation = Reconciliation(installation_on(real_client), ["A"])
            assert list(reconciliation.run(fix=False)) == []
    finally:
        done.set()
        serving.join()
    assert coupons.snapshot("A")["issued"] > 100


def test_unknown_coupon_and_silent_redis_are_one_line(a_campaign, run, monkeypatch):
    assert run("NONE") == (1, ["Error: not registered: NONE"])
    monkeypatch.setenv("REDIS_URL", "redis://127.0.0.1:1/0")
    code, [line] = run()
    assert code == 3 and line.startswith("Error: unavailable: ")


def acknowledged(client):
    """A worker that acknowledges before it decides, and dies in between."""
    client.xreadgroup(GROUP, "dead", {KEYS.requests: ">"}, count=9)
    client.xack(KEYS.requests, GROUP, *(entry_id for entry_id, _ in client.xrange(KEYS.requests)))


def skipped(client):
    client.xgroup_setid(KEYS.requests, GROUP, "$")


@pytest.mark.parametrize("lose", [acknowledged, skipped, trimmed])
def test_request_that_no_worker_will_read_is_found_and_put_back(a_campaign, run, lose):
    lose(a_campaign)
    assert run() == (1, [
        "A: request r-p1 of 'p1' will be read by no worker",
        "A: request r-p2 of 'p2' will be read by no worker",
        "2 coupons, 2 disagreements, 2 left",
    ])
    lost = {entry_id for entry_id, _ in a_campaign.xrange(KEYS.requests)}
    assert run("--fix")[0] == 0
    there = dict(a_campaign.xrange(KEYS.requests))
    assert len(there) == 2 and not lost & set(there)
    marks = a_campaign.hgetall(KEYS.pending("A"))
    assert {mark.partition(" ")[2] for mark in marks.values()} == set(there)
    assert run("--fix") == (0, ["2 coupons, 0 disagreements, 0 left"])
    # No entry is left behind that would undo a cancellation.
    operations_on(a_campaign).cancel("A", "p1")
    drain(a_campaign, worker_on(a_campaign))
    assert coupons_on(a_campaign).snapshot("A")["issued"] == 3
    assert run() == (0, ["2 coupons, 0 disagreements, 0 left"])


def test_entry_that_is_held_or_still_to_be_read_is_not_lost(a_campaign, run):
    a_campaign.xreadgroup(GROUP, "slow", {KEYS.requests: ">"}, count=1)
    assert run() == (0, ["2 coupons, 0 disagreements, 0 left"])
    a_campaign.xgroup_destroy(KEYS.requests, GROUP)  # a worker makes it again, from the start
    assert run() == (0, ["2 coupons, 0 disagreements, 0 left"])


def test_coupon_that_is_named_twice_is_counted_once(a_campaign, run):
    assert run("A", "A", "B") == (0, ["2 coupons, 0 disagreements, 0 left"])


@pytest.mark.parametrize(
    "corrupt, said",
    [
        (lambda client: client.set(KEYS.stock("A"), "abc"), "stock is 'abc'"),
        (lambda client: client.delete(KEYS.requested("A")), "requested is lost"),
        (lambda client: client.hset(KEYS.coupon("A"), "quantity", "x"), "quantity is 'x'"),
        (lambda client: rewritten(client, KEYS.pending("A")), "WRONGTYPE"),
        (lambda client: rewritten(client, KEYS.issuances("A")), "WRONGTYPE"),
        (lambda client: client.hset(KEYS.pending("A"), "p1", "r a b"), "'a' is not a stream id"),
    ],
    ids=["stock", "requested", "quantity", "type of pending", "type of issuances", "mark"],
)
def test_corrupt_data_is_a_disagreement_of_its_coupon(a_campaign, run, corrupt, said):
    corrupt(a_campaign)
    code, [line, *_, summary] = run()
    assert code == 1
    assert line.startswith("A: corrupt data: ") and said in line
    assert summary == "2 coupons, 1 disagreements, 1 left"


def rewritten(client, key):
    client.delete(key)
    client.set(key, "x")


def test_log_of_another_type_is_one_line(a_campaign, run):
    rewritten(a_campaign, KEYS.log)
    code, [line] = run()
    assert code == 3 and line.startswith("Error: corrupt_data: ")


def test_lines_that_others_wrote_to_the_log_are_passed_over(a_campaign, run):
    a_campaign.xadd(KEYS.log, {"x": "y"})
    a_campaign.xadd(KEYS.log, {"couponId": "A", "decision": "cancelled"})
    assert run() == (0, ["2 coupons, 0 disagreements, 0 left"])


def test_keys_are_gone_through_once_for_all_coupons(a_campaign):
    coupons_on(a_campaign).register(*(Registration(f"C{number}", 1) for number in range(50)))

    def scans(ids):
        a_campaign.config_resetstat()
        assert list(Reconciliation(installation_on(a_campaign), ids).run(fix=False)) == []
        return a_campaign.info("commandstats")["cmdstat_scan"]["calls"]

    assert scans(["A", *(f"C{number}" for number in range(50))]) == scans(["A"])


def test_mark_that_is_cancelled_after_its_key_was_found_is_no_disagreement(a_campaign):
    """Between the reads of the search for marks that no issuance names."""
    installation = installation_on(a_campaign)
    names = list(a_campaign.scan_iter(KEYS.user("A", "*")))

    def then_cancelled(*_, **__):
        yield from names
        operations_on(a_campaign).cancel("A", "i1")

    reconciliation = Reconciliation(installation, ["A"])
    reconciliation._client = Overridden(a_campaign, scan_iter=then_cancelled)
    assert list(reconciliation.run(fix=False)) == []


def test_coupon_that_is_deleted_while_the_log_is_read_is_no_disagreement(a_campaign):
    def delete_first(*arguments, **options):
        if arguments[0] == KEYS.log and arguments[1] == "-":
            operations_on(a_campaign).delete("A")
        return a_campaign.xrange(*arguments, **options)

    reconciliation = Reconciliation(installation_on(a_campaign), ["A"])
    reconciliation._client = Overridden(a_campaign, xrange=delete_first)
    assert list(reconciliation.run(fix=False)) == []


class Overridden:
    """A client some of whose methods are others."""

    def __init__(self, client, **methods):
        self.__dict__.update(methods)
        self._client = client

    def __getattr__(self, name):
        return getattr(self._client, name)
