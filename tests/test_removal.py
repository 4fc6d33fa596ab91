"""What was deleted, or has expired long enough ago, is removed page by page, whatever happens
meanwhile."""

import itertools

import pytest
from redis.exceptions import ConnectionError

from coupon_service.admin.coupon_list import CouponList
from coupon_service.errors import BeingRemoved, Closed, CorruptData, NotRequested, UnknownCoupon
from coupon_service.keys import GROUP
from coupon_service.scripts import Registration, Request
from tests.state import (
    KEYS,
    assert_consistent,
    coupons_on,
    decided,
    drain,
    everything,
    installation_on,
    log_lines,
    operations_on,
    scripts_on,
    worker_on,
)

PAST, FUTURE = 1_000_000_000_000, 4_000_000_000_000


@pytest.fixture(autouse=True)
def pages_of_two(monkeypatch):
    monkeypatch.setattr("coupon_service.removal.PAGE", 2)


@pytest.fixture
def removal(client):
    return installation_on(client).removal


@pytest.fixture
def campaign(client, coupons, worker):
    """Coupon A: 20, issued to u0 … u8, pending for p0 … p2."""
    coupons.register(Registration("A", 20))
    for number in range(9):
        coupons.request("A", f"u{number}", f"r{number}")
    drain(client, worker)
    for number in range(3):
        coupons.request("A", f"p{number}", f"r{number}")


def expire(client, coupon="A"):
    """Let a coupon be due: it has expired, and its retention is over."""
    client.zadd(KEYS.removals, {coupon: PAST})


def remove(removal, coupon="A"):
    """Remove page after page; return how many pages it took."""
    return next(page for page in itertools.count(1) if not removal.remove_page(coupon))


def left_of(client, coupon="A"):
    return set(client.scan_iter(KEYS.coupon(coupon) + "*")) | {
        key for key in (KEYS.coupons, KEYS.removals) if client.exists(key)
    }


def decisions(client):
    return [(entry["userId"], entry["decision"]) for _, entry in decided(client)]


def test_deleted_coupon_is_unknown_at_once_and_removed_by_and_by(client, coupons, campaign):
    operations = operations_on(client)
    answer = operations.delete("A")
    assert (answer["issued"], answer["refused"]) == (9, 3)
    assert client.exists(KEYS.user("A", "u8")) and not client.exists(KEYS.user("A", "u0"))
    for call in (
        lambda: coupons.snapshot("A"), lambda: coupons.user("A", "u8"),
        lambda: coupons.request("A", "new", "r"), lambda: coupons.request("A", "u8", "r8"),
        lambda: operations.statistics("A"), lambda: operations.close("A"),
        lambda: operations.cancel("A", "u8"), lambda: operations.delete("A"),
        lambda: operations.issuances("A", 10), lambda: operations.issuance("A", "u8"),
    ):
        with pytest.raises(UnknownCoupon):
            call()
    assert operations.coupons(10) == []
    assert operations.held_by("u8") == []
    worker = worker_on(client)
    while client.zcard(KEYS.removals):
        worker.run_once()
    assert left_of(client) == set()
    assert decisions(client)[9:] == [(f"p{number}", "unknown_coupon") for number in range(3)]
    assert client.xlen(KEYS.requests) == 0


def test_coupon_deleted_after_its_id_was_listed_is_held_by_nobody(client, campaign):
    listed = CouponList(installation_on(client))
    ids = list(listed.id_pages())
    operations_on(client).delete("A")
    listed.id_pages = lambda: ids
    assert client.exists(KEYS.user("A", "u8"))
    assert listed.held_by("u8") == []


def test_request_of_a_deleted_coupon_is_not_put_on_the_stream_again(client, campaign):
    scripts = scripts_on(client)
    scripts.delete("A")
    before = everything(client)
    assert not scripts.requeue("A", "p0", "r0")
    assert everything(client) == before


def test_small_coupon_is_gone_when_the_deletion_returns(client, coupons):
    coupons.register(Registration("A", 1))
    coupons.request("A", "u", "r")
    operations_on(client).delete("A")
    assert left_of(client) == set()


def test_id_can_be_registered_again_when_everything_is_removed(client, coupons, removal, campaign):
    operations_on(client).delete("A")
    before = everything(client)
    with pytest.raises(BeingRemoved) as refusal:
        coupons.register(Registration("B", 1), Registration("A", 1))
    assert (refusal.value.retry_after, refusal.value.details) == (1, {"couponId": "A"})
    assert everything(client) == before
    remove(removal)
    coupons.register(Registration("A", 1))
    assert coupons.request("A", "u8", "r8")["status"] == "pending"
    assert_consistent(client, "A")


def test_expired_coupon_is_removed_when_it_is_due_and_not_before(client, worker, coupons, campaign):
    client.xtrim(KEYS.requests, maxlen=0, approximate=False)
    client.zadd(KEYS.removals, {"A": FUTURE})
    worker.run_once()
    worker.run_once()
    assert coupons.snapshot("A")["issued"] == 9
    expire(client)
    worker._sweep_at = 0
    for _ in range(6):
        worker.run_once()
    assert left_of(client) == set()


def test_expiry_extended_after_the_worker_found_it_due_keeps_the_coupon(
    client, coupons, removal, campaign
):
    coupons.register(Registration("A", 20, {"expiresAt": FUTURE}))
    expire(client)
    assert removal.next_due() == "A"
    coupons.register(Registration("A", 20, {"expiresAt": FUTURE + 1}))
    before = everything(client)
    assert not removal.remove_page("A")
    assert everything(client) == before
    assert removal.next_due() is None


def test_page_that_was_read_before_the_expiry_was_extended_removes_nothing(
    client, coupons, campaign
):
    coupons.register(Registration("A", 20, {"expiresAt": FUTURE}))
    before = everything(client)
    page = client.xrange(KEYS.issuances("A"), count=2)
    issued = [(line, entry["userId"]) for line, entry in page]
    pending = client.hgetall(KEYS.pending("A"))
    assert scripts_on(client).remove("A", pending, issued) == "not_due"
    assert everything(client) == before


def test_removal_that_has_begun_goes_on_although_the_retention_is_longer_now(
    client, coupons, removal, campaign
):
    expire(client)
    removal.remove_page("A")
    with pytest.raises(BeingRemoved):
        coupons_on(client, retention=10**9).register(Registration("A", 20, {"expiresAt": FUTURE}))
    remove(removal)
    assert left_of(client) == set()


def held_entries(client):
    """Let a worker read all entries; return them as it would decide them."""
    if not client.exists(KEYS.requests) or not client.xinfo_groups(KEYS.requests):
        client.xgroup_create(KEYS.requests, GROUP, id="0", mkstream=True)
    [[_, entries]] = client.xreadgroup(GROUP, "sleeper", {KEYS.requests: ">"}, count=100)
    return [
        Request(fields["couponId"], fields["userId"], fields.get("requestId", entry_id), entry_id)
        for entry_id, fields in entries
    ]


@pytest.mark.parametrize("asks_again", ["nobody", "with the same id", "with another id"])
def test_entry_of_the_old_life_held_through_deletion_and_registration_is_not_issued(
    client, coupons, removal, campaign, asks_again
):
    held = held_entries(client)
    assert [request.user_id for request in held] == ["p0", "p1", "p2"]
    operations_on(client).delete("A")
    remove(removal)
    coupons.register(Registration("A", 1))
    if asks_again != "nobody":
        coupons.request("A", "p0", "r0" if asks_again == "with the same id" else "new")
    before = everything(client)
    verdicts = scripts_on(client).issue(held)
    assert [verdict for verdict, _ in verdicts] == [0, 0, 0]
    assert everything(client) == before
    drain(client, worker_on(client))
    issued = coupons.snapshot("A")["issued"]
    assert issued == (0 if asks_again == "nobody" else 1)
    assert_consistent(client, "A")


def test_entry_held_by_a_worker_while_its_coupon_is_being_removed_is_refused_once(
    client, coupons, removal, campaign
):
    held = held_entries(client)
    expire(client)
    # As if the first page had only set deletedAt.
    scripts_on(client).remove("A", {}, [])
    verdicts = scripts_on(client).issue(held[:2])
    assert verdicts == [[0, "unknown_coupon"]] * 2
    remove(removal)
    assert scripts_on(client).issue(held) == [[0, "unknown_coupon"]] * 3
    assert decisions(client)[9:] == [(f"p{number}", "unknown_coupon") for number in range(3)]
    assert left_of(client) == set()


def test_foreign_entry_older_than_the_registration_is_refused_and_a_younger_one_issued(
    client, coupons, worker
):
    client.xadd(KEYS.requests, {"couponId": "A", "userId": "early"})
    coupons.register(Registration("A", 5))
    client.xadd(KEYS.requests, {"couponId": "A", "userId": "late"})
    drain(client, worker)
    assert decisions(client) == [("early", "unknown_coupon"), ("late", "issued")]
    assert set(coupons.snapshot("A")["refusals"].values()) == {0}
    assert_consistent(client, "A")


@pytest.mark.parametrize("since", ["x", "OOM"])
def test_corrupt_since_makes_a_dead_letter_of_the_foreign_entry_alone(
    client, coupons, worker, since
):
    """Also where it looks like an error for which one waits."""
    coupons.register(Registration("A", 2))
    client.hset(KEYS.coupon("A"), "since", since)
    client.xadd(KEYS.requests, {"couponId": "A", "userId": "foreign"})
    coupons.request("A", "admitted", "r")
    drain(client, worker)
    assert decisions(client) == [("admitted", "issued")]
    [(_, dead)] = client.xrange(KEYS.dead)
    assert "CORRUPT not a stream id" in dead["reason"]


def test_top_up_does_not_make_waiting_entries_old(client, coupons, worker):
    coupons.register(Registration("A", 1))
    coupons.request("A", "u", "r")
    client.xadd(KEYS.requests, {"couponId": "A", "userId": "foreign"})
    coupons.register(Registration("A", 2))
    drain(client, worker)
    assert decisions(client) == [("u", "issued"), ("foreign", "issued")]


def test_admitted_request_is_issued_though_the_stream_has_begun_anew_with_smaller_ids(
    client, coupons, worker
):
    """The stream was deleted, and the clock is behind its ids: the pending mark names the entry."""
    client.xdel(KEYS.requests, client.xadd(KEYS.requests, {"x": "y"}, id=f"{FUTURE}-0"))
    coupons.register(Registration("A", 1))
    client.delete(KEYS.requests)
    coupons.request("A", "u", "r")
    drain(client, worker)
    assert coupons.user("A", "u")["status"] == "issued"


def test_two_processes_may_remove_one_coupon(client, campaign):
    first, second = (installation_on(client).removal for _ in range(2))
    expire(client)
    page = client.xrange(KEYS.issuances("A"), count=2)
    taking_turns = itertools.cycle([first, second])
    pages = next(n for n in itertools.count(1) if not next(taking_turns).remove_page("A"))
    assert pages == 5
    assert left_of(client) == set()
    assert decisions(client)[9:] == [(f"p{number}", "unknown_coupon") for number in range(3)]
    # A page that one of them has read comes when the other has completed the removal.
    issued = [(line, entry["userId"]) for line, entry in page]
    assert scripts_on(client).remove("A", {}, issued) == "not_due"
    assert left_of(client) == set()


def test_page_of_the_old_life_removes_nothing_of_the_new_one(client, coupons, removal, campaign):
    page = client.xrange(KEYS.issuances("A"), count=2)
    pending = client.hgetall(KEYS.pending("A"))
    operations_on(client).delete("A")
    remove(removal)
    coupons.register(Registration("A", 20))
    for user in ("u0", "u1", "p0"):
        coupons.request("A", user, "r0")
    drain(client, worker_on(client))
    coupons.request("A", "p1", "r1")
    expire(client)  # also this life is due, and its removal about to begin
    marks = {key: client.get(key) for key in client.scan_iter(KEYS.user("A", "*"))}
    waiting = client.hgetall(KEYS.pending("A"))
    issued = [(line, entry["userId"]) for line, entry in page]
    assert scripts_on(client).remove("A", pending, issued) == "removing"
    assert {key: client.get(key) for key in client.scan_iter(KEYS.user("A", "*"))} == marks
    assert client.hgetall(KEYS.pending("A")) == waiting
    remove(removal)
    assert left_of(client) == set()


def test_service_goes_on_between_the_pages(client, coupons, removal, campaign):
    coupons.register(Registration("X", 5))
    coupons.request("X", "u0", "r")
    expire(client)
    worker = worker_on(client)
    while removal.remove_page("A"):
        assert coupons.request("X", "u0", "r")["status"] == "pending"
        worker._decisions.decide(worker._stream.read_new(10, None))
        with pytest.raises(UnknownCoupon):
            coupons.request("A", "u0", "r")
        with pytest.raises(UnknownCoupon):
            operations_on(client).cancel("A", "u8")
        with pytest.raises(NotRequested):
            coupons.user("X", "nobody")
        assert coupons.register(Registration("X", 5))[0]["quantity"] == 5
        assert operations_on(client).held_by("u0") in (
            [], [{"couponId": "X", **_without_coupon(coupons.user("X", "u0"))}],
        )
    assert left_of(client) == {KEYS.coupons}
    drain(client, worker)
    assert_consistent(client, "X")
    operations_on(client).close("X")
    with pytest.raises(Closed):
        coupons.request("X", "u1", "r")


def _without_coupon(status):
    return {name: status[name] for name in ("requestId", "issuedAt") if name in status}


def test_corrupt_coupon_does_not_hold_up_the_removal_of_others(client, coupons, campaign, caplog):
    coupons.register(Registration("B", 5), Registration("C", 5))
    for number, coupon in enumerate("ABC"):
        client.zadd(KEYS.removals, {coupon: PAST + number})
    client.delete(KEYS.issuances("A"))
    client.set(KEYS.issuances("A"), "not a stream")
    worker = worker_on(client)
    for _ in range(8):
        worker.run_once()
    assert client.zrange(KEYS.removals, 0, -1) == ["A"]
    [failure] = [line for line in caplog.messages if "removal fails" in line]
    assert "couponId=A" in failure and "WRONGTYPE" in failure


@pytest.mark.parametrize("corrupt", ["coupon", "pending", "issuances", "all", "quantity", "hash"])
def test_corrupt_coupon_is_deleted_and_its_id_can_be_registered_again(
    client, coupons, removal, campaign, corrupt
):
    keys = {each: getattr(KEYS, each)("A") for each in ("coupon", "pending", "issuances")}
    if corrupt == "quantity":
        client.hdel(keys["coupon"], "quantity")
    elif corrupt == "hash":
        client.delete(keys["coupon"])
    for name, key in keys.items():
        if corrupt in (name, "all"):
            client.delete(key)
            client.set(key, "another type")
    lost = {"pending": {"refused"}, "issuances": {"issued"}, "all": {"refused", "issued"}}
    there = {"issued": 9, "refused": 3}
    assert operations_on(client).delete("A") == {
        "couponId": "A", **there, **dict.fromkeys(lost.get(corrupt, ()), 0),
    }
    with pytest.raises(UnknownCoupon):
        operations_on(client).delete("A")
    remove(removal)
    marks = {KEYS.user("A", f"u{number}") for number in range(9)}
    assert left_of(client) == (marks if "issued" in lost.get(corrupt, ()) else set())
    [line] = [line for _, line in log_lines(client) if line["decision"] == "deleted"]
    assert line["couponId"] == "A"
    assert coupons.register(Registration("A", 1))[0]["requested"] == 0


def test_expired_coupon_of_another_type_can_be_deleted(client, removal, campaign):
    expire(client)
    client.delete(KEYS.coupon("A"))
    client.set(KEYS.coupon("A"), "another type")
    before = everything(client)
    assert not removal.remove_page("A")
    assert everything(client) == before
    operations_on(client).delete("A")
    remove(removal)
    assert left_of(client) == set()


def test_issuance_mark_of_another_type_is_removed(client, removal, campaign):
    client.delete(KEYS.user("A", "u0"))
    client.rpush(KEYS.user("A", "u0"), "another type")
    operations_on(client).delete("A")
    remove(removal)
    assert left_of(client) == set()


def test_pending_requests_that_come_in_one_read_are_removed_in_pages(client, removal, campaign):
    """A server gives a hash of a compact encoding whole, whatever is asked for."""
    given, remove_page = [], removal._scripts.remove
    removal._scripts.remove = lambda coupon, pending, issued: (
        given.append(len(pending)) or remove_page(coupon, pending, issued)
    )
    expire(client)
    remove(removal)
    assert given[:2] == [2, 1]
    assert left_of(client) == set()


@pytest.mark.parametrize("corrupt", ["coupon", "pending"])
def test_coupon_that_becomes_corrupt_while_it_is_removed_can_be_deleted_again(
    client, removal, campaign, corrupt
):
    operations_on(client).delete("A")
    client.delete(getattr(KEYS, corrupt)("A"))
    client.set(getattr(KEYS, corrupt)("A"), "another type")
    assert not removal.remove_page("A")
    assert KEYS.removals in left_of(client)
    operations_on(client).delete("A")
    remove(removal)
    assert left_of(client) == set()


def test_deletion_is_not_repeated_where_the_marks_would_be_left(client, coupons, removal, campaign):
    operations_on(client).delete("A")
    client.delete(KEYS.issuances("A"))
    client.set(KEYS.issuances("A"), "another type")
    with pytest.raises(UnknownCoupon):
        operations_on(client).delete("A")
    with pytest.raises(BeingRemoved):
        coupons.register(Registration("A", 1))


def test_mark_of_an_earlier_life_frees_nothing(client, coupons, removal, campaign):
    """It was left where the issuances, which name the marks, had another type."""
    client.delete(KEYS.issuances("A"))
    client.set(KEYS.issuances("A"), "another type")
    operations_on(client).delete("A")
    remove(removal)
    coupons.register(Registration("A", 1))
    before = everything(client)
    with pytest.raises(CorruptData):
        operations_on(client).cancel("A", "u0")
    assert everything(client) == before


def test_deletion_of_a_coupon_that_is_not_registered_removes_nothing(client, coupons):
    coupons.register(Registration("B", 1))
    client.set(KEYS.coupon("A"), "another type")
    before = everything(client)
    with pytest.raises(UnknownCoupon):
        operations_on(client).delete("A")
    assert everything(client) == before


def test_removals_of_another_type_hold_up_no_decision(client, coupons, worker, caplog):
    coupons.register(Registration("A", 1))
    coupons.request("A", "u", "r")
    client.set(KEYS.removals, "not a sorted set")
    drain(client, worker)
    assert coupons.user("A", "u")["status"] == "issued"
    assert [line for line in caplog.messages if line.startswith("nothing is removed error=WRONG")]


@pytest.mark.parametrize("mark", ["r", "", "r not-an-id", "a b c"])
def test_pending_mark_without_an_entry_is_removed(client, coupons, removal, mark):
    coupons.register(Registration("A", 1))
    client.hset(KEYS.pending("A"), "u", mark)
    operations_on(client).delete("A")
    assert left_of(client) == set()
    assert decisions(client) == [("u", "unknown_coupon")]


def test_deletion_is_done_even_if_its_first_pages_fail(
    client, coupons, removal, campaign, monkeypatch
):
    def fail(*_):
        raise ConnectionError("lost")

    with monkeypatch.context() as patch:
        patch.setattr("coupon_service.worker_scripts.WorkerScripts.remove", fail)
        assert operations_on(client).delete("A")["issued"] == 9
    with pytest.raises(UnknownCoupon):
        coupons.snapshot("A")
    remove(removal)
    assert left_of(client) == set()


def calls_of(client, call):
    """How many commands the server runs in a call, those inside scripts included."""
    client.config_resetstat()
    call()
    return {
        name: stat["calls"] for name, stat in client.info("commandstats").items()
        if name not in ("cmdstat_info", "cmdstat_config|resetstat")
    }


def test_no_step_costs_more_for_a_large_coupon(real_client, monkeypatch):
    monkeypatch.setattr("coupon_service.removal.PAGE", 50)
    coupons = coupons_on(real_client)
    costs = []
    for coupon, count in (("SMALL", 200), ("LARGE", 2000)):
        scripts = scripts_on(real_client, coupon)
        coupons.register(Registration(coupon, 10_000))
        requests = [Request(coupon, f"u{number}", "r") for number in range(count)]
        assert scripts.admit(requests) == [["accepted"]] * count
        drain(real_client, worker_on(real_client, worker_batch=1000))
        later = Registration(coupon, 10_000, {"expiresAt": FUTURE})
        removal = installation_on(real_client, coupon).removal
        costs.append([
            calls_of(real_client, call) for call in (
                lambda later=later: coupons.register(later),
                lambda scripts=scripts, coupon=coupon: scripts.delete(coupon),
                lambda removal=removal, coupon=coupon: removal.remove_page(coupon),
            )
        ])
    assert costs[0] == costs[1]
