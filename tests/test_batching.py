"""Requests that wait at the same moment share a round trip, and nothing else."""

import logging
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from redis.exceptions import RedisError

from coupon_service.batching import MAX_BATCH, Batches, _Waiting
from coupon_service.errors import Unavailable
from coupon_service.circuit_breaker import CircuitBreaker
from coupon_service.scripts import Registration, Request
from tests.processes import wait_until
from tests.state import KEYS, assert_consistent, scripts_on


class HeldUp:
    """Scripts whose first round trip takes as long as one likes; it counts them."""

    def __init__(self, scripts):
        self._scripts, self.trips = scripts, []
        self.under_way, self.go_on = threading.Event(), threading.Event()

    def admit(self, requests):
        self._count(requests)
        return self._scripts.admit(requests)

    def status(self, requests):
        self._count(requests)
        return self._scripts.status(requests)

    def _count(self, requests):
        self.trips.append(len(requests))
        if not self.under_way.is_set():
            self.under_way.set()
            assert self.go_on.wait(60)


def together(batches, scripts, requests):
    """Let one request alone and the others meanwhile; give what they are told, in their order."""

    def admit(request):
        try:
            return batches.ask(request)
        except Exception as error:
            return error

    with ThreadPoolExecutor(len(requests)) as pool:
        futures = [pool.submit(admit, requests[0])]
        assert scripts.under_way.wait(60)
        for number, request in enumerate(requests[1:], 1):
            futures.append(pool.submit(admit, request))
            wait_until(lambda: len(batches._waiting) == number, "the request to wait")
        scripts.go_on.set()
        return [future.result() for future in futures]


@pytest.fixture
def shared(client):
    scripts = scripts_on(client)
    scripts.register([Registration("A", 3), Registration("X", 1)])
    held_up = HeldUp(scripts)
    return Batches(held_up.admit, CircuitBreaker()), held_up


def test_requests_while_a_round_trip_is_under_way_share_the_next(client, shared):
    batches, scripts = shared
    requests = [
        Request(*ids) for ids in (
            ("A", "u1", "r1"), ("A", "u2", "r2"), ("X", "u1", "r3"), ("A", "u2", "r4"),
            ("NONE", "u", "r5"), ("A", "u3", "r6"), ("A", "u4", "r7"), ("A", "u2", "r2"),
            ("X", "u9", "r8"),
        )
    ]
    told = together(batches, scripts, requests)
    assert told == [
        ["accepted"], ["accepted"], ["accepted"], ["duplicate", "pending", "r2"],
        ["unknown_coupon"], ["accepted"], ["sold_out"], ["accepted"], ["sold_out"],
    ]
    assert scripts.trips == [1, 8]
    entries = [(entry["couponId"], entry["userId"]) for _, entry in client.xrange(KEYS.requests)]
    assert [user for coupon, user in entries if coupon == "A"] == ["u1", "u2", "u3"]
    assert_consistent(client, "A", "X")


def test_corrupt_coupon_is_an_error_for_those_alone_who_ask_for_it(client, shared):
    batches, scripts = shared
    client.set(KEYS.requested("X"), "many")
    requests = [Request("A", "u1", "r1"), Request("X", "u", "r2"), Request("A", "u2", "r3")]
    first, corrupt, last = together(batches, scripts, requests)
    assert first == last == ["accepted"]
    assert isinstance(corrupt, RedisError) and "CORRUPT" in str(corrupt)


def test_corrupt_coupon_hides_no_outage_from_those_who_share_its_round_trip(own_server):
    client = own_server.client()
    scripts = scripts_on(client)
    scripts.register([Registration("A", 3), Registration("X", 1)])
    client.set(KEYS.requested("X"), "many")
    client.config_set("maxmemory", 1)
    held_up = HeldUp(scripts)
    requests = [Request("A", "first", "r"), Request("X", "u", "r"), Request("A", "u", "r")]
    first, corrupt, last = together(Batches(held_up.admit, CircuitBreaker()), held_up, requests)
    assert isinstance(first, Unavailable) and isinstance(last, Unavailable)
    assert isinstance(corrupt, RedisError) and "CORRUPT" in str(corrupt)


def test_no_more_than_so_many_share_a_round_trip(client, shared):
    batches, scripts = shared
    # As if so many had come at the same moment, of whom this thread is the last.
    batches._waiting.extend(
        _Waiting(Request("X", f"u{number}", "r")) for number in range(2 * MAX_BATCH)
    )
    scripts.under_way.set()
    assert batches.ask(Request("X", "last", "r")) == ["sold_out"]
    assert scripts.trips == [MAX_BATCH, MAX_BATCH, 1]


def test_outage_is_told_to_all_who_wait_and_logged_once(own_server, caplog):
    caplog.set_level(logging.WARNING)
    client = own_server.client()
    scripts = scripts_on(client)
    scripts.register([Registration("A", 100)])
    client.config_set("maxmemory", 1)
    held_up = HeldUp(scripts)
    batches = Batches(held_up.admit, CircuitBreaker())
    requests = [Request("A", f"u{number}", f"r{number}") for number in range(9)]
    told = together(batches, held_up, requests)
    assert all(isinstance(each, Unavailable) for each in told)
    assert held_up.trips == [1, 8]
    assert ["waiting for redis" in message for message in caplog.messages] == [True]
    client.config_set("maxmemory", 0)
    assert batches.ask(requests[0]) == ["accepted"]
    assert "redis is back" in caplog.messages[-1]


def test_polls_that_wait_share_a_round_trip(client, shared):
    _, scripts = shared
    scripts._scripts.admit([Request("A", "u1", "r1"), Request("A", "u2", "r2")])
    client.set(KEYS.user("A", "u2"), "r2 1-0")
    client.rpush(KEYS.user("A", "u3"), "of another type")
    client.set(KEYS.requested("X"), "many")
    polls = Batches(scripts.status, CircuitBreaker())
    asked = [("NONE", "u"), ("A", "u1"), ("A", "u2"), ("A", "u3"), ("A", "u4"), ("X", "u1")]
    told = together(polls, scripts, [Request(*ids, "") for ids in asked])
    assert scripts.trips == [1, 5]
    assert "WRONGTYPE" in str(told.pop(3))
    assert [status for status, *_ in told] == [
        "unknown_coupon", "pending", "issued", "not_requested", "not_requested",
    ]
