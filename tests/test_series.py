"""What the scripts count over time: exact, of a fixed size, gone with the coupon, in no way."""

from collections import Counter
from itertools import count
from types import SimpleNamespace

import fakeredis
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from coupon_service.admin.series import SLOTS, SPANS, read_series
from coupon_service.scripts import Registration, Request
from coupon_service.snapshot import instant
from tests.state import KEYS, coupons_on, drain, installation_on, operations_on, worker_on

START = 1_700_000_000


def series_of(client):
    return read_series(installation_on(client), "A")


def issued(shown):
    return sum(each["issued"] for each in shown["counts"])


class Campaign(RuleBasedStateMachine):
    """A campaign of any length, beside a list of all that has happened to it."""

    client = None  # set by the test
    clock = None

    def __init__(self):
        super().__init__()
        self.client.flushall()
        self.coupons, self.worker = coupons_on(self.client), worker_on(self.client)
        self.clock.now = START
        self.serial, self.holders = count(), []
        self.quantity, self.events = 0, []  # of each event: instant (s), issued, added
        self.top_up(added=50)

    @rule(seconds=st.sampled_from([0, 0.4, 1, 5, 60, 239, 240, 241, 3_600, 14_400, 90_000]))
    def wait(self, seconds):
        self.clock.now += seconds

    @rule(added=st.integers(1, 9))
    def top_up(self, added):
        self.quantity += added
        self.coupons.register(Registration("A", self.quantity))
        self.happened(0, added)

    @rule(users=st.integers(1, 4))
    def issue(self, users):
        users = [f"u{next(self.serial)}" for _ in range(min(users, self.stock()))]
        for user in users:
            self.coupons.request("A", user, "r")
        drain(self.client, self.worker)
        self.holders += users
        self.happened(len(users), 0)

    @rule()
    def cancel(self):
        if self.holders:
            operations_on(self.client).cancel("A", self.holders.pop())
            self.happened(-1, 0)

    def happened(self, issued, added):
        if issued or added:
            self.events.append((int(self.clock.now), issued, added))

    def stock(self):
        return self.quantity - len(self.holders)

    def archive(self, span):
        """What the archive of a span has to have: issued by its start, and the stock at its end."""
        issued, stocks, stock = Counter(), {}, 0
        newest = self.events[-1][0] // span
        for at, given, added in self.events:
            stock += added - given
            if at // span > newest - SLOTS:
                issued[at // span * span] += given
                stocks[at // span * span] = stock
        return [{"at": instant(at * 1000), "issued": issued[at], "stock": stocks[at]}
                for at in stocks]

    @invariant()
    def every_count_is_exact_in_the_finest_archive_that_has_all(self):
        archives = [(span, self.archive(span)) for span in SPANS]
        complete = [
            (span, counts) for span, counts in archives
            if sum(each["issued"] for each in counts) == len(self.holders)
        ]
        span, counts = (complete or archives[-1:])[0]
        assert series_of(self.client) == {"spanSeconds": span, "counts": counts}
        assert self.client.hlen(KEYS.series("A")) <= SLOTS * len(SPANS)


def test_counts_stay_exact_however_long_a_campaign_lasts(monkeypatch):
    clock = SimpleNamespace(now=START)
    monkeypatch.setattr(
        "fakeredis.commands_mixins.server_mixin.time", SimpleNamespace(time=lambda: clock.now)
    )
    client = fakeredis.FakeRedis(
        decode_responses=True, encoding_errors="surrogateescape", protocol=2
    )
    case = type("Case", (Campaign,), {"client": client, "clock": clock}).TestCase
    case.settings = settings(
        max_examples=40, stateful_step_count=40, deadline=None,
        suppress_health_check=list(HealthCheck),
    )
    case("runTest").runTest()


def test_counts_of_a_clock_that_was_ahead_hide_no_others(monkeypatch):
    clock = SimpleNamespace(now=START)
    monkeypatch.setattr(
        "fakeredis.commands_mixins.server_mixin.time", SimpleNamespace(time=lambda: clock.now)
    )
    client = fakeredis.FakeRedis(decode_responses=True, protocol=2)
    coupons, worker = coupons_on(client), worker_on(client)
    coupons.register(Registration("A", 9))
    for number, ahead in enumerate((0, 365 * 86_400, 60, 61)):
        clock.now = START + ahead
        coupons.request("A", f"u{number}", "r")
        drain(client, worker)
    shown = series_of(client)
    assert [(each["issued"], each["stock"]) for each in shown["counts"]] == [(3, 5)]


@pytest.fixture
def sale(client, coupons, worker):
    """Coupon A of five, three of them issued to u0, u1 and u2."""
    coupons.register(Registration("A", 5))
    for number in range(3):
        coupons.request("A", f"u{number}", f"r{number}")
    drain(client, worker)
    return client


def test_registration_issuance_cancellation_and_top_up_are_counted(sale, coupons):
    operations_on(sale).cancel("A", "u1")
    coupons.register(Registration("A", 9))
    coupons.register(Registration("A", 9))  # the same again changes nothing
    shown = series_of(sale)
    assert (shown["spanSeconds"], issued(shown)) == (1, 2)
    assert shown["counts"][-1]["stock"] == 7 == coupons.snapshot("A")["stock"]
    slots = [slot.split() for slot in sale.hgetall(KEYS.series("A")).values()]
    assert sum(int(added) for _, _, added in slots) == 9 * len(SPANS)


def test_refusals_repetitions_and_withdrawals_are_not_counted(sale, coupons, worker):
    coupons.request("A", "withdrawn", "r")
    before = sale.hgetall(KEYS.series("A"))
    operations_on(sale).cancel("A", "withdrawn")
    entry_id = sale.xadd(KEYS.requests, {"couponId": "A", "userId": "u1", "requestId": "other"})
    drain(sale, worker)
    scripts = installation_on(sale).worker_scripts
    assert scripts.issue([Request("A", "u0", "r0", entry_id)])[0][1] == "issued"
    assert sale.hgetall(KEYS.series("A")) == before


def test_finest_archive_with_all_that_was_issued_is_shown(sale):
    """Made-up slots of a campaign that issued three, the first of them a day before the last."""
    def slot(span, at, issued):
        return f"{span}:{at // span % SLOTS}", f"{at // span * span} {issued} 0"

    late, early = START + 86_400, START
    sale.delete(KEYS.series("A"))
    sale.hset(KEYS.series("A"), mapping=dict([
        slot(1, late, 2), slot(60, late, 2), slot(3600, late, 2),
        slot(1, early + 7, 1), slot(60, early + 120, 1), slot(3600, early, 1),
    ]))
    shown = series_of(sale)
    assert (shown["spanSeconds"], issued(shown)) == (3600, 3)
    assert [each["stock"] for each in shown["counts"]] == [4, 2]


def test_sale_that_ended_keeps_its_seconds(sale):
    at = START - 1_000_000
    sale.delete(KEYS.series("A"))
    sale.hset(KEYS.series("A"), mapping={f"1:{at % SLOTS}": f"{at} 3 5"})
    assert series_of(sale) == {
        "spanSeconds": 1, "counts": [{"at": instant(at * 1000), "issued": 3, "stock": 2}],
    }


def test_series_of_data_from_before_it_was_kept_begins_with_the_first_count(sale):
    sale.delete(KEYS.series("A"))
    assert series_of(sale) == {"spanSeconds": 3600, "counts": []}
    operations_on(sale).cancel("A", "u1")
    shown = series_of(sale)
    assert shown["spanSeconds"] == 3600
    assert [(each["issued"], each["stock"]) for each in shown["counts"]] == [(-1, 3)]


def test_it_is_removed_with_the_coupon(sale):
    operations_on(sale).delete("A")
    assert not sale.exists(KEYS.series("A"))


@pytest.mark.parametrize("corrupt", [
    lambda client: client.set(KEYS.series("A"), "no hash"),
    lambda client: client.hset(KEYS.series("A"), mapping={
        f"{span}:{number}": value for span in SPANS for number in range(SLOTS)
        for value in ["1e400 x y"]
    }),
], ids=["no hash", "no counts"])
def test_what_is_no_series_stops_no_sale(sale, coupons, worker, corrupt):
    sale.delete(KEYS.series("A"))
    corrupt(sale)
    coupons.request("A", "u3", "r")
    drain(sale, worker)
    coupons.register(Registration("A", 6))
    operations_on(sale).cancel("A", "u1")
    assert coupons.snapshot("A")["stock"] == 3
    assert coupons.user("A", "u3")["status"] == "issued"


@pytest.mark.parametrize("slot", ["rubbish", "1 2", "1e400 x y", "", "9" * 16 + " 1 1"])
def test_series_with_a_slot_that_is_no_count_is_not_readable(sale, caplog, slot):
    sale.hset(KEYS.series("A"), "1:0", slot)
    assert series_of(sale) is None
    assert "corrupt series couponId=A error=" in caplog.text


def test_series_of_another_type_is_not_readable(sale):
    sale.delete(KEYS.series("A"))
    sale.set(KEYS.series("A"), "no hash")
    assert series_of(sale) is None


def test_coupon_that_is_gone_has_no_counts(client):
    assert series_of(client)["counts"] == []
