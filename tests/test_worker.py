"""The worker loop on the stream: dead letters, claims, consumers, log lines."""

import json
import logging

import pytest
from redis.exceptions import ConnectionError, ResponseError

from coupon_service.keys import GROUP
from coupon_service.scripts import Registration
from coupon_service.stream import Entry
from tests.processes import wait_until
from tests.state import (
    KEYS,
    assert_consistent,
    coupons_on,
    decided,
    drain,
    everything,
    operations_on,
    scripts_on,
    worker_on,
)


def test_decision_is_logged_as_one_line_of_key_value(client, coupons, worker, caplog):
    caplog.set_level(logging.INFO)
    coupons.register(Registration("A", 1))
    coupons.request("A", 'Kim "=', "r")
    drain(client, worker)
    assert caplog.messages == [
        'couponId=A userId="Kim \\"=" requestId=r decision=issued',
    ]


def test_log_line_of_a_foreign_entry_names_the_entry_as_its_request(
    client, coupons, worker, caplog
):
    caplog.set_level(logging.INFO)
    coupons.register(Registration("A", 1))
    entry_id = client.xadd(KEYS.requests, {"couponId": "A", "userId": "u"})
    drain(client, worker)
    assert caplog.messages == [f"couponId=A userId=u requestId={entry_id} decision=issued"]


POISON = {
    "no couponId": ({"userId": "u"}, "couponId is missing"),
    "no userId": ({"couponId": "A"}, "userId is missing"),
    "other fields": ({"x": "y"}, "couponId is missing"),
    "couponId": ({"couponId": "a:b", "userId": "u"}, "couponId is not valid"),
    "userId": ({"couponId": "A", "userId": "u\nu"}, "userId is not valid"),
    "not utf-8": ({"couponId": "A", "userId": b"\xff\xfe"}, "userId is not valid"),
    "requestId": ({"couponId": "A", "userId": "u", "requestId": "a b"}, "requestId is not valid"),
}


@pytest.mark.parametrize("name", POISON)
def test_malformed_entry_is_a_dead_letter_and_the_others_flow(client, coupons, worker, name):
    fields, reason = POISON[name]
    coupons.register(Registration("A", 2))
    coupons.request("A", "u1", "r")
    poison_id = client.xadd(KEYS.requests, fields)
    coupons.request("A", "u2", "r")
    drain(client, worker)
    [(_, dead)] = client.xrange(KEYS.dead)
    assert dead.pop("entryId") == poison_id
    assert dead.pop("reason") == reason
    assert json.loads(dead.pop("fields")) == {
        key: value.decode("utf-8", "surrogateescape") if isinstance(value, bytes) else value
        for key, value in fields.items()
    }
    assert dead == {}
    assert client.xpending(KEYS.requests, GROUP)["pending"] == 0
    assert len(decided(client)) == 2
    assert_consistent(client, "A")


@pytest.mark.parametrize(
    "corrupt, word",
    [
        (lambda client: client.set(KEYS.stock("A"), "abc"), "CORRUPT"),
        (lambda client: client.set(KEYS.stock("A"), "010"), "CORRUPT"),
        (lambda client: client.set(KEYS.stock("A"), "1e3"), "CORRUPT"),
        (lambda client: client.set(KEYS.requested("A"), "-"), "CORRUPT"),
        (lambda client: client.hset(KEYS.coupon("A"), "quantity", "many"), "CORRUPT"),
        (lambda client: (client.delete(KEYS.stock("A")), client.lpush(KEYS.stock("A"), "1")),
         "WRONGTYPE"),
        (lambda client: client.lpush(KEYS.user("A", "u"), "1"), "WRONGTYPE"),
    ],
    ids=[
        "stock", "stock 010", "stock 1e3", "requested", "quantity", "type of stock",
        "type of mark",
    ],
)
def test_corrupt_coupon_makes_dead_letters_and_the_others_flow(
    client, coupons, worker, corrupt, word
):
    for coupon in ("A", "B"):
        coupons.register(Registration(coupon, 1))
        coupons.request(coupon, "u", "r")
    corrupt(client)
    drain(client, worker)
    [(_, dead)] = client.xrange(KEYS.dead)
    assert word in dead["reason"]
    assert json.loads(dead["fields"]) == {"couponId": "A", "userId": "u", "requestId": "r"}
    assert coupons.user("B", "u")["status"] == "issued"
    # The place of the request is not given away: once it is repaired, the letter can be sent again.
    assert client.hget(KEYS.pending("A"), "u").split(" ")[0] == "r"


def test_corrupt_mark_spoils_nothing_for_those_who_are_decided_with_it(client, coupons, worker):
    coupons.register(Registration("A", 3))
    for user in ("u1", "u2", "u3"):
        coupons.request("A", user, f"r-{user}")
    client.lpush(KEYS.user("A", "u2"), "1")
    drain(client, worker)
    [(_, dead)] = client.xrange(KEYS.dead)
    assert json.loads(dead["fields"])["userId"] == "u2"
    assert [coupons.user("A", user)["status"] for user in ("u1", "u3")] == ["issued"] * 2


def test_log_of_another_type_loses_no_request(client, coupons, worker):
    """It concerns every entry, so it is waited for, and no entry becomes a dead letter."""
    coupons.register(Registration("A", 1))
    coupons.request("A", "u", "r")
    client.set(KEYS.log, "not a stream")
    before = everything(client)
    with pytest.raises(ResponseError, match="MISPLACED"):
        for _ in range(3):
            worker.run_once()
    assert everything(client) == before
    client.delete(KEYS.log)
    worker.wait_out(ResponseError("MISPLACED"))
    drain(client, worker)
    assert_consistent(client, "A")
    assert client.xlen(KEYS.dead) == 0


def test_dead_letters_that_cannot_be_written_hold_up_nobody_in_the_batch(client, coupons, worker):
    coupons.register(Registration("A", 2))
    client.xadd(KEYS.requests, {"x": "y"})
    coupons.request("A", "u", "r")
    client.set(KEYS.dead, "not a stream")
    for _ in range(3):
        worker.run_once()
    coupons.request("A", "later", "r")
    worker.run_once()
    assert [coupons.user("A", user)["status"] for user in ("u", "later")] == ["issued"] * 2
    assert client.xlen(KEYS.requests) == 1


def test_dead_letters_without_ids_lose_no_entry(client, coupons, worker):
    coupons.register(Registration("A", 2))
    client.xadd(KEYS.dead, {"x": "y"}, id="18446744073709551615-18446744073709551615")
    client.xadd(KEYS.requests, {"x": "y"})
    coupons.request("A", "u", "r")
    for _ in range(3):
        worker.run_once()
    assert coupons.user("A", "u")["status"] == "issued"
    assert [fields for _, fields in client.xrange(KEYS.requests)] == [{"x": "y"}]


@pytest.mark.parametrize("name", ["stock", "requested"])
def test_number_beyond_those_of_lua_makes_a_dead_letter(client, coupons, worker, name):
    coupons.register(Registration("A", 2))
    coupons.request("A", "u", "r")
    client.set(getattr(KEYS, name)("A"), 2 ** 63)
    drain(client, worker)
    assert client.xlen(KEYS.dead) == 1
    assert coupons.user("A", "u")["status"] == "pending"


def test_dead_letter_that_could_not_be_written_is_written_later(real_client):
    worker = worker_on(real_client, claim_idle_ms=1)
    real_client.xadd(KEYS.requests, {"x": "y"})
    real_client.set(KEYS.dead, "not a stream")
    for _ in range(3):
        worker.run_once()
    real_client.delete(KEYS.dead)
    wait_until(lambda: worker.run_once() or real_client.xlen(KEYS.dead), "the dead letter")
    assert real_client.xlen(KEYS.requests) == 0


def test_dead_letter_sent_twice_is_written_once(client, coupons, worker):
    client.xadd(KEYS.requests, {"x": "y"})
    [(entry_id, fields)] = client.xrange(KEYS.requests)
    scripts = scripts_on(client)
    client.xgroup_create(KEYS.requests, GROUP, id="0")
    assert scripts.dead_letter(entry_id, fields, "reason")
    assert not scripts.dead_letter(entry_id, fields, "reason")
    assert client.xlen(KEYS.dead) == 1


def test_entries_that_came_before_the_first_worker_are_decided(client, coupons, worker):
    coupons.register(Registration("A", 3))
    for number in range(3):
        coupons.request("A", f"u{number}", "r")
    assert not client.xinfo_groups(KEYS.requests)
    drain(client, worker)
    assert_consistent(client, "A")


def test_entries_that_a_broken_read_took_are_decided_from_the_own_pending_list(real_client):
    """The reply of XREADGROUP is lost: the server has given us entries we never saw."""
    worker = worker_on(real_client, consumer="me")
    worker.run_once()
    real_client.hset(KEYS.coupon("A"), "quantity", "1")
    entry_id = real_client.xadd(KEYS.requests, {"couponId": "A", "userId": "u"})
    real_client.xreadgroup(GROUP, "me", {KEYS.requests: ">"}, count=1)
    worker.wait_out(ConnectionError("reset"))
    worker.run_once()
    assert [entry["entryId"] for _, entry in decided(real_client)] == [entry_id]


def held(client):
    return {
        consumer["name"]: consumer["pending"]
        for consumer in client.xinfo_consumers(KEYS.requests, GROUP)
    }


def dead_consumer(client, count):
    """A consumer that has read `count` entries and died."""
    client.xgroup_create(KEYS.requests, GROUP, id="0", mkstream=True)
    client.xreadgroup(GROUP, "dead", {KEYS.requests: ">"}, count=count)


def test_entries_of_a_dead_worker_are_claimed_after_the_idle_time(real_client):
    coupons = coupons_on(real_client)
    coupons.register(Registration("A", 5))
    for number in range(5):
        coupons.request("A", f"u{number}", "r")
    dead_consumer(real_client, 5)
    worker = worker_on(real_client, consumer="me", claim_idle_ms=1, worker_batch=2)
    drain(real_client, worker)
    assert held(real_client) == {"dead": 0, "me": 0}
    assert_consistent(real_client, "A")


def test_entries_of_a_working_worker_are_left_to_it(real_client):
    real_client.xadd(KEYS.requests, {"couponId": "A", "userId": "u"})
    dead_consumer(real_client, 1)
    worker = worker_on(real_client, consumer="me", claim_idle_ms=60_000)
    for _ in range(3):
        assert worker.run_once() == 0
    assert held(real_client) == {"dead": 1, "me": 0}


def test_deleted_entry_in_the_own_pending_list_is_a_dead_letter(real_client):
    entry_id = real_client.xadd(KEYS.requests, {"couponId": "A", "userId": "u"})
    real_client.xgroup_create(KEYS.requests, GROUP, id="0")
    real_client.xreadgroup(GROUP, "me", {KEYS.requests: ">"}, count=1)
    real_client.xdel(KEYS.requests, entry_id)
    worker_on(real_client, consumer="me").run_once()
    [(_, dead)] = real_client.xrange(KEYS.dead)
    assert dead["reason"] == "the entry was deleted from the stream"
    assert held(real_client) == {"me": 0}


def test_consumer_leaves_the_group_when_it_stops(real_client, monkeypatch):
    worker = worker_on(real_client, consumer="me")

    def twice():
        worker.stopping = "me" in held(real_client) if real_client.exists(KEYS.requests) else False
        return type(worker).run_once(worker)

    monkeypatch.setattr(worker, "run_once", twice)
    worker.run()
    assert worker.stopping and held(real_client) == {}


def test_consumer_that_holds_entries_is_not_removed(real_client):
    real_client.xadd(KEYS.requests, {"couponId": "A", "userId": "u"})
    dead_consumer(real_client, 1)
    assert not scripts_on(real_client).remove_consumer("dead")
    assert held(real_client) == {"dead": 1}


def test_silent_consumers_that_hold_nothing_are_removed(real_client, monkeypatch):
    monkeypatch.setattr("coupon_service.stream.REMOVE_AFTER_MS", 0)
    real_client.xadd(KEYS.requests, {"couponId": "A", "userId": "u"})
    dead_consumer(real_client, 1)
    real_client.xgroup_createconsumer(KEYS.requests, GROUP, "gone")
    worker = worker_on(real_client, consumer="me")
    worker.run_once()
    worker.run_once()
    assert held(real_client) == {"dead": 1, "me": 0}


def test_request_that_was_withdrawn_is_not_said_to_be_sold_out(client, coupons, worker, caplog):
    caplog.set_level("INFO")
    coupons.register(Registration("A", 5))
    coupons.request("A", "u", "r")
    client.xgroup_create(KEYS.requests, GROUP, id="0", mkstream=True)
    [[_, [(entry_id, fields)]]] = client.xreadgroup(
        GROUP, worker._stream.consumer, {KEYS.requests: ">"}, count=1
    )
    operations_on(client).cancel("A", "u")
    worker._decisions.decide([Entry(entry_id, fields)])
    assert caplog.messages[-1] == "couponId=A userId=u requestId=r decision=gone"
    assert [line["decision"] for _, line in decided(client)] == ["withdrawn"]
    assert_consistent(client, "A")


def test_pass_without_entries_changes_nothing(real_client):
    worker = worker_on(real_client)
    worker.run_once()
    before = everything(real_client)
    assert worker.run_once() == 0
    assert everything(real_client) == before


@pytest.mark.parametrize("user_id", ["team/../ann", "..", "."])
def test_request_of_an_id_that_is_refused_by_now_is_decided_and_can_be_cancelled(
    client, worker, user_id
):
    """As an earlier version has admitted it."""
    coupons, operations = coupons_on(client), operations_on(client)
    coupons.register(Registration("A", 5))
    coupons.request("A", user_id, "r")
    drain(client, worker)
    assert coupons.user("A", user_id)["status"] == "issued"
    assert client.xlen(KEYS.dead) == 0
    assert operations.cancel("A", user_id)["requestStatus"] == "issued"
    assert_consistent(client, "A")


def test_withdrawn_entry_is_not_issued_on_the_mark_of_a_repetition(client, coupons, worker):
    """The worker sleeps with the entry while the request is withdrawn and repeated."""
    coupons.register(Registration("A", 1))
    coupons.request("A", "u", "r")
    client.xgroup_create(KEYS.requests, GROUP, id="0", mkstream=True)
    [[_, [held]]] = client.xreadgroup(GROUP, worker._stream.consumer, {KEYS.requests: ">"}, count=1)
    operations_on(client).cancel("A", "u")
    coupons.request("A", "u", "r")
    worker._decisions.decide([Entry(*held)])
    operations_on(client).cancel("A", "u")
    drain(client, worker)
    assert [line["decision"] for _, line in decided(client)] == ["withdrawn", "withdrawn"]
    assert_consistent(client, "A")
