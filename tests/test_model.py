"""Any order of what can happen to coupons, beside a model of it that fits on a page."""

import time
from dataclasses import dataclass, field
from itertools import count

import fakeredis
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from coupon_service.admin.operations import REMOVED_AT_ONCE
from coupon_service.errors import CouponError
from coupon_service.scripts import Registration
from tests.state import KEYS, coupons_on, drain, operations_on, partitions_on, worker_on

COUPONS = st.sampled_from(["A", "B"])
USERS = st.sampled_from(["u1", "u2", "u3", "u4"])
NOW = int(time.time() * 1000)
PAST, LONG_PAST, FUTURE = NOW - 3_600_000, NOW - 7_200_000, NOW + 3_600_000
WINDOWS = st.fixed_dictionaries({}, optional={
    "opensAt": st.sampled_from([None, LONG_PAST, FUTURE]),
    "closesAt": st.sampled_from([None, PAST, FUTURE + 1]),
    "expiresAt": st.sampled_from([None, PAST, FUTURE + 1]),
})


@dataclass
class Model:
    """A coupon as it should be."""

    quantity: int
    window: dict = field(
        default_factory=lambda: dict.fromkeys(("opensAt", "closesAt", "expiresAt"))
    )
    pending: dict = field(default_factory=dict)
    issued: dict = field(default_factory=dict)
    due: bool = False

    @property
    def taken(self):
        return len(self.pending) + len(self.issued)

    @property
    def state(self):
        opens_at, closes_at, expires_at = self.window.values()
        if expires_at and expires_at < FUTURE:
            return "expired"
        if closes_at and closes_at < FUTURE:
            return "closed"
        if opens_at == FUTURE:
            return "scheduled"
        return "sold_out" if self.taken >= self.quantity else "open"


def in_order(window):
    opens_at, closes_at, expires_at = window.values()
    ends = [end for end in (closes_at, expires_at) if end]
    return (
        all(not opens_at or opens_at < end for end in ends)
        and not (closes_at and expires_at and closes_at > expires_at)
    )


def answer(call, *arguments):
    """What a call returns, or the code with which it is refused."""
    try:
        return call(*arguments)
    except CouponError as error:
        return error.code


class Life(RuleBasedStateMachine):
    client = None  # set by the test

    def __init__(self):
        super().__init__()
        self.client.flushall()
        self.coupons = coupons_on(self.client)
        self.operations = operations_on(self.client)
        self.worker = worker_on(self.client)
        for worker in (self.worker, *self.worker.others):
            worker._sweep_at = float("inf")  # removing is a rule of its own
        self.model = {}
        #: Deleted, with records left: the first two pages, of one issuance each, are gone.
        self.removing = set()
        self.serial = count()

    @rule(coupon=COUPONS, quantity=st.integers(1, 5), window=WINDOWS)
    def register(self, coupon, quantity, window):
        model = self.model.get(coupon) or Model(quantity)
        merged = {**model.window, **window}
        registered = answer(self.coupons.register, Registration(coupon, quantity, window))
        if coupon in self.removing:
            assert registered == "being_removed"
        elif quantity < model.taken:
            assert registered == "quantity_too_low"
        elif not in_order(merged):
            assert registered == "invalid_window"
        else:
            # A window that changes is due anew, see register.lua.
            model.due = model.due and merged == model.window
            model.quantity, model.window = quantity, merged
            self.model[coupon] = model
            assert registered[0]["stock"] == quantity - len(model.issued)

    @rule(coupon=COUPONS, user=USERS)
    def request(self, coupon, user):
        request_id = f"r{next(self.serial)}"
        got = answer(self.coupons.request, coupon, user, request_id)
        model = self.model.get(coupon)
        if not model:
            assert got == "unknown_coupon"
        elif user in model.pending or user in model.issued:
            assert got == "duplicate"
        elif model.state != "open":
            assert got == {
                "expired": "closed", "closed": "closed", "scheduled": "not_open",
                "sold_out": "sold_out",
            }[model.state]
        else:
            assert got["status"] == "pending"
            model.pending[user] = request_id

    @rule(coupon=COUPONS, user=USERS)
    def repeat(self, coupon, user):
        model = self.model.get(coupon)
        held = model and (model.pending.get(user) or model.issued.get(user))
        if held:
            got = self.coupons.request(coupon, user, held)
            assert (got["status"], got["requestId"]) == ("pending", held)

    @rule()
    def decide(self):
        drain(self.client, self.worker)
        for model in self.model.values():
            model.issued |= model.pending
            model.pending = {}

    @rule(coupon=COUPONS, user=USERS)
    def cancel(self, coupon, user):
        got = answer(self.operations.cancel, coupon, user)
        model = self.model.get(coupon)
        if not model:
            assert got == "unknown_coupon"
        elif user in model.pending:
            assert (got["requestStatus"], got["requestId"]) == ("pending", model.pending.pop(user))
        elif user in model.issued:
            assert (got["requestStatus"], got["requestId"]) == ("issued", model.issued.pop(user))
        else:
            assert got == "not_requested"

    @rule(coupon=COUPONS)
    def close(self, coupon):
        got = answer(self.operations.close, coupon)
        model = self.model.get(coupon)
        if not model:
            assert got == "unknown_coupon"
            return
        if model.state not in ("expired", "closed"):
            # To the model, closed now is closed in the past.
            self.client.hset(KEYS.coupon(coupon), "closesAt", PAST)
            model.window["closesAt"] = PAST
        elif model.window["closesAt"] is None or model.window["closesAt"] >= FUTURE:
            model.window["closesAt"] = PAST  # where it expired
        if model.window["opensAt"] == FUTURE:
            model.window["opensAt"] = None

    @precondition(lambda self: self.model)
    @rule(coupon=COUPONS)
    def delete(self, coupon):
        got = answer(self.operations.delete, coupon)
        model = self.model.pop(coupon, None)
        if model:
            assert (got["issued"], got["refused"]) == (len(model.issued), len(model.pending))
            if len(model.issued) > REMOVED_AT_ONCE:
                self.removing.add(coupon)
        else:
            assert got == "unknown_coupon"

    @rule(coupon=COUPONS)
    def retention_ends(self, coupon):
        model = self.model.get(coupon)
        if model and model.window["expiresAt"]:
            # Seven days pass.
            self.client.zadd(KEYS.of(coupon).removals, {coupon: PAST}, xx=True)
            model.due = True

    @rule()
    def remove_what_is_due(self):
        for installation in partitions_on(self.client):
            removal = installation.removal
            while coupon := removal.next_due():
                removal.remove_page(coupon)
        self.model = {coupon: model for coupon, model in self.model.items() if not model.due}
        self.removing = set()

    @invariant()
    def snapshots_are_those_of_the_model(self):
        listed = self.operations.coupons(10)
        assert [shown["couponId"] for shown in listed] == sorted(self.model)
        for shown in listed:
            model = self.model[shown["couponId"]]
            assert shown["state"] == model.state
            assert shown["quantity"] == model.quantity == shown["stock"] + shown["issued"]
            assert shown["requested"] == shown["issued"] + shown["pending"]
            assert shown["issued"] == len(model.issued)
            assert shown["pending"] == len(model.pending)

    @invariant()
    def users_have_what_the_model_says(self):
        for coupon, model in self.model.items():
            issuances, _ = self.operations.issuances(coupon, 10)
            assert {each["userId"]: each["requestId"] for each in issuances} == model.issued
            for user in ("u1", "u2", "u3", "u4"):
                got = answer(self.coupons.user, coupon, user)
                if user in model.pending:
                    assert (got["status"], got["requestId"]) == ("pending", model.pending[user])
                elif user in model.issued:
                    expected = "expired" if model.state == "expired" else "issued"
                    assert (got["status"], got["requestId"]) == (expected, model.issued[user])
                else:
                    assert got == "not_requested"
        marks = set(self.client.scan_iter("*coupon:*:user:*"))
        removing = {mark for mark in marks if mark.split(":")[-3] in self.removing}
        assert marks - removing == {
            KEYS.user(coupon, user) for coupon, model in self.model.items() for user in model.issued
        }


@pytest.mark.parametrize("server, examples", [("fake", 20), ("real", 10)])
def test_whatever_happens_the_counters_agree(request, monkeypatch, server, examples):
    monkeypatch.setattr("coupon_service.removal.PAGE", 1)
    if server == "real":
        client = request.getfixturevalue("real_client")
    else:
        client = fakeredis.FakeRedis(decode_responses=True, protocol=2)

    class OnServer(Life):
        pass

    OnServer.client = client
    OnServer.TestCase.settings = settings(
        max_examples=examples, stateful_step_count=30, deadline=None, database=None,
        suppress_health_check=list(HealthCheck),
    )
    OnServer.TestCase("runTest").runTest()
