"""The verdicts of issue.lua, and what a repeated or foreign entry does."""

import time

import pytest
from redis.exceptions import ResponseError

from coupon_service.errors import SoldOut
from coupon_service.keys import GROUP
from coupon_service.scripts import Registration, Request
from tests.state import (
    KEYS,
    assert_consistent,
    coupons_on,
    decided,
    drain,
    everything,
    scripts_on,
    worker_on,
)


@pytest.fixture
def decide(client):
    """Read one new entry as a consumer does, and decide it; an entry can be given again."""
    scripts = scripts_on(client)

    def decide(entry=None):
        if entry is None:
            [[_, [entry]]] = client.xreadgroup(GROUP, "test", {KEYS.requests: ">"}, count=1)
        entry_id, fields = entry
        [[verdict, _]] = scripts.issue([
            Request(fields["couponId"], fields["userId"], fields.get("requestId", entry_id),
                    entry_id)
        ])
        return verdict, entry

    client.xgroup_create(KEYS.requests, GROUP, id="0", mkstream=True)
    return decide


def foreign(client, user, coupon="A"):
    """Another producer, which knows only what the original put on the stream."""
    client.xadd(KEYS.requests, {"couponId": coupon, "userId": user})


def decisions(client):
    return [(entry["userId"], entry["decision"]) for _, entry in decided(client)]


def test_admitted_request_is_issued(client, coupons, decide):
    coupons.register(Registration("A", 1))
    coupons.request("A", "u", "r")
    verdict, (entry_id, _) = decide()
    assert verdict == 1
    [(log_id, entry)] = decided(client)
    assert entry == {
        "couponId": "A", "userId": "u", "requestId": "r", "decision": "issued",
        "entryId": entry_id,
    }
    assert client.get(f"{KEYS.prefix}coupon:A:user:u") == f"r {log_id}"
    assert client.get(KEYS.stock("A")) == "0"
    assert client.hlen(KEYS.pending("A")) == 0
    assert client.xlen(KEYS.requests) == 0
    assert client.xpending(KEYS.requests, GROUP)["pending"] == 0
    assert_consistent(client, "A")


def test_redelivered_entry_gets_the_same_verdict_and_changes_nothing(client, coupons, decide):
    coupons.register(Registration("A", 2))
    coupons.request("A", "u", "r")
    verdict, entry = decide()
    before = everything(client)
    assert decide(entry)[0] == verdict == 1
    assert everything(client) == before


def test_verdicts_for_another_producer_are_those_of_the_original(client, coupons, decide):
    coupons.register(Registration("A", 2))
    for user in ("u1", "u1", "u2", "u3", "u1"):
        foreign(client, user)
    assert [decide()[0] for _ in range(5)] == [1, 2, 1, 0, 0]
    assert decisions(client) == [
        ("u1", "issued"), ("u1", "duplicate"), ("u2", "issued"), ("u3", "sold_out"),
        ("u1", "sold_out"),
    ]
    assert client.get(KEYS.requested("A")) == "2"
    assert coupons.snapshot("A")["refusals"] == {
        "duplicate": 1, "sold_out": 2, "not_open": 0, "closed": 0,
    }
    assert_consistent(client, "A")


def test_foreign_entry_cannot_take_the_place_of_an_admitted_request(client, coupons, decide):
    coupons.register(Registration("A", 1))
    foreign(client, "foreign")
    coupons.request("A", "admitted", "r")
    assert decide()[0] == 0
    assert decide()[0] == 1
    assert decisions(client) == [("foreign", "sold_out"), ("admitted", "issued")]
    assert_consistent(client, "A")


def test_foreign_entry_of_a_user_who_is_pending_is_a_duplicate(client, coupons, decide):
    coupons.register(Registration("A", 5))
    foreign(client, "u")
    coupons.request("A", "u", "r")
    assert [decide()[0], decide()[0]] == [2, 1]
    assert_consistent(client, "A")


def test_foreign_issuance_takes_a_place_of_the_quantity(client, coupons, decide):
    coupons.register(Registration("A", 1))
    foreign(client, "u")
    assert decide()[0] == 1
    with pytest.raises(SoldOut):
        coupons.request("A", "u2", "r")
    assert_consistent(client, "A")


@pytest.mark.parametrize("top_up", [False, True])
def test_redelivered_refusal_is_neither_issued_nor_counted_again(client, coupons, decide, top_up):
    coupons.register(Registration("A", 1))
    foreign(client, "u1")
    foreign(client, "u2")
    decide()
    verdict, entry = decide()
    if top_up:
        coupons.register(Registration("A", 2))
    before = everything(client)
    assert decide(entry)[0] == verdict == 0
    assert everything(client) == before


def test_entry_for_an_unknown_coupon_has_no_stock_and_leaves_only_the_log(client, decide):
    foreign(client, "u", coupon="NONE")
    assert decide()[0] == 0
    assert decisions(client) == [("u", "unknown_coupon")]
    assert set(everything(client)) <= {KEYS.requests, KEYS.log}


def test_mark_of_another_system_makes_an_admitted_request_a_duplicate(client, coupons, decide):
    coupons.register(Registration("A", 2))
    coupons.request("A", "u", "r")
    client.set(f"{KEYS.prefix}coupon:A:user:u", "issued")
    assert decide()[0] == 2
    assert client.get(KEYS.requested("A")) == "0"
    assert client.hlen(KEYS.pending("A")) == 0
    assert client.get(KEYS.stock("A")) == "2"


def test_admitted_request_without_stock_gives_its_place_back(client, coupons, decide):
    coupons.register(Registration("A", 1))
    coupons.request("A", "u", "r")
    client.set(KEYS.stock("A"), "0")
    assert decide()[0] == 0
    assert client.get(KEYS.requested("A")) == "0"
    assert client.hlen(KEYS.pending("A")) == 0


def test_entry_deleted_from_the_stream_in_the_hands_of_a_worker_is_issued(client, coupons, decide):
    coupons.register(Registration("A", 1))
    coupons.request("A", "u", "r")
    [[_, [entry]]] = client.xreadgroup(GROUP, "test", {KEYS.requests: ">"}, count=1)
    client.delete(KEYS.requests)
    assert decide(entry)[0] == 1
    assert_consistent(client, "A")


def test_prefix_goes_before_every_key(client):
    coupons = coupons_on(client, key_prefix="shop:")
    coupons.register(Registration("A", 1))
    coupons.request("A", "u", "r")
    worker = worker_on(client, key_prefix="shop:")
    while client.xlen(f"shop:{KEYS.requests}"):
        worker.run_once()
    assert coupons.user("A", "u")["status"] == "issued"
    assert all(key.startswith("shop:") for key in everything(client))


def test_many_coupons_share_the_stream(client, coupons, worker):
    for coupon in ("A", "B"):
        coupons.register(Registration(coupon, 2))
        for user in ("u1", "u2"):
            coupons.request(coupon, user, f"{coupon}-{user}")
    drain(client, worker)
    for coupon in ("A", "B"):
        assert_consistent(client, coupon)
        assert client.get(KEYS.stock(coupon)) == "0"


#: Milliseconds: an hour ahead of the clock.
AHEAD = int(time.time() * 1000) + 3_600_000


def test_log_that_was_renamed_while_its_ids_were_ahead_of_the_clock(client, coupons, worker):
    coupons.register(Registration("A", 3))
    client.xadd(KEYS.log, {"of": "a clock that went back"}, id=f"{AHEAD}-0")
    coupons.request("A", "u1", "r1")
    drain(client, worker)
    client.rename(KEYS.log, "archive")
    for user in ("u2", "u3"):
        coupons.request("A", user, "r")
    drain(client, worker)
    before = [line for line in client.xrange("archive") if "userId" in line[1]]
    after = client.xrange(KEYS.log)
    assert [line["decision"] for _, line in after] == ["issued", "issued"]
    ids = [line_id for line_id, _ in before + after]
    assert [line_id for line_id, _ in client.xrange(KEYS.issuances("A"))] == ids
    assert client.get(KEYS.stock("A")) == "0"


@pytest.mark.parametrize("decide", ["issue", "cancel", "remove"])
def test_log_that_has_no_more_ids_is_waited_for(client, coupons, worker, decide):
    coupons.register(Registration("A", 3))
    coupons.request("A", "u", "r")
    [(entry_id, _)] = client.xrange(KEYS.requests)
    client.xadd(KEYS.log, {"x": "y"}, id="18446744073709551615-18446744073709551615")
    client.zadd(KEYS.removals, {"A": 1})
    before = everything(client)
    scripts = scripts_on(client)
    with pytest.raises(ResponseError, match="MISPLACED"):
        if decide == "issue":
            [reply] = scripts.issue([Request("A", "u", "r", entry_id)])
            raise reply
        elif decide == "cancel":
            scripts.cancel("A", "u", "")
        else:
            scripts.remove("A", {"u": f"r {entry_id}"}, [])
    assert everything(client) == before


@pytest.mark.parametrize("last", [
    "253402300799998-5", "253402300799999-0", "253402300800000-0", "18446744073709551615-1",
])
def test_issuances_that_have_no_more_ids_concern_their_coupon_alone(client, coupons, worker, last):
    """Their ids become those of lines in the log, which is that of all coupons."""
    coupons.register(Registration("A", 3), Registration("B", 3))
    client.xadd(KEYS.issuances("A"), {"userId": "x"}, id=last)
    coupons.request("A", "u", "r")
    coupons.request("B", "u", "r")
    drain(client, worker)
    assert coupons.user("B", "u")["status"] == "issued"
    [(_, dead)] = client.xrange(KEYS.of("A").dead)
    assert "CORRUPT the ids of the issuances" in dead["reason"]


def test_last_issuances_that_leave_ids_to_the_log_are_followed(client, coupons, worker):
    coupons.register(Registration("A", 3))
    client.xadd(KEYS.issuances("A"), {"userId": "x"}, id="253402300799997-5")
    for user in ("u", "v"):
        coupons.request("A", user, "r")
        drain(client, worker)
    assert [coupons.user("A", user)["status"] for user in ("u", "v")] == ["issued", "issued"]
