"""What the scripts do with many at a time is what they do with one after the other."""

import random

import pytest

from coupon_service.keys import GROUP
from coupon_service.scripts import Registration, Request
from tests.state import installation_on, scripts_on

COUPONS = {"A": 8, "X": 2, "GONE": 0}


def state(client, keys):
    """What is stored, but for ids that the clock makes."""

    def first_words(marks):
        return {name: mark.split(" ")[0] for name, mark in marks.items()}

    def lines(stream):
        # Coupons are decided one after the other: only the order within each is the same.
        return sorted(
            ((entry["couponId"], number, entry.get("userId"), entry.get("requestId"),
              entry.get("decision"))
             for number, (_, entry) in enumerate(client.xrange(stream))),
            key=lambda line: line[:2],
        )

    found = {}
    for coupon in COUPONS:
        counters = client.hgetall(keys.coupon(coupon))
        counters.pop("registeredAt", None)
        found[coupon] = (
            counters, client.get(keys.stock(coupon)), client.get(keys.requested(coupon)),
            first_words(client.hgetall(keys.pending(coupon))),
            [entry for _, entry in client.xrange(keys.issuances(coupon))],
            first_words({
                user: client.get(keys.user(coupon, user)) for user in USERS
                if client.exists(keys.user(coupon, user))
            }),
        )
    log, requests = (
        [(coupon, *rest) for coupon, _, *rest in lines(stream)]
        for stream in (keys.log, keys.requests)
    )
    return found, log, requests


USERS = [f"u{number}" for number in range(6)]


def as_fields(request):
    coupon, user, request_id, _ = request
    return {"couponId": coupon, "userId": user, "requestId": request_id}


def requests(choose):
    """Requests of few users, so that some ask twice, and some with the same request id."""
    return [
        Request(choose(["A", "X", "GONE"]), user, f"{user}-{choose('12')}")
        for user in (choose(USERS) for _ in range(30))
    ]


def prepared(client, prefix, seed):
    keys = installation_on(client, key_prefix=prefix).keys
    scripts = scripts_on(client, key_prefix=prefix)
    scripts.register([Registration(coupon, count) for coupon, count in COUPONS.items() if count])
    return keys, scripts, random.Random(seed).choice


@pytest.mark.parametrize("seed", range(8))
def test_admitting_many_at_a_time_is_admitting_them_in_order(client, seed):
    keys, scripts, choose = prepared(client, "single:", seed)
    single = [scripts.admit([each])[0] for each in requests(choose)], state(client, keys)
    keys, scripts, choose = prepared(client, "together:", seed)
    together = scripts.admit(requests(choose)), state(client, keys)
    assert together == single
    assert {reply[0] for reply in single[0]} >= {"accepted", "duplicate", "unknown_coupon"}


@pytest.mark.parametrize("seed", range(8))
def test_deciding_many_at_a_time_is_deciding_them_in_order(client, seed):
    """Entries of admitted requests, of other producers, twice on the stream, delivered twice."""

    def decided(prefix, size):
        keys, scripts, choose = prepared(client, prefix, seed)
        scripts.admit(requests(choose))
        fields = [entry for _, entry in client.xrange(keys.requests)]
        for entry in [*map(choose, [fields] * 3), *map(as_fields, requests(choose))]:
            client.xadd(keys.requests, entry)
        # As if coupons had been taken away: then admitted requests are refused as well.
        client.set(keys.stock("X"), 1)
        client.xgroup_create(keys.requests, GROUP, id="0")
        [[_, entries]] = client.xreadgroup(GROUP, "test", {keys.requests: ">"}, count=100)
        given = [Request(*entry.values(), entry_id) for entry_id, entry in entries]
        given += given[:5]
        verdicts = [
            verdict for start in range(0, len(given), size)
            for verdict in scripts.issue(given[start:start + size])
        ]
        return verdicts, state(client, keys), client.xlen(keys.requests)

    single, together = decided("single:", 1), decided("together:", 1000)
    assert together == single
    assert {word for _, word in single[0]} >= {"issued", "duplicate", "sold_out"}
