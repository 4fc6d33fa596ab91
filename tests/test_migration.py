"""Data that the version before wrote (tests/data/format1.json) is converted and goes on."""

import pytest
from redis.exceptions import ConnectionError

from coupon_service.config import Config
from coupon_service.errors import Unavailable
from coupon_service.keys import GROUP, Keys
from coupon_service.migration import UnusableData
from coupon_service.scripts import Registration
from coupon_service.web import preflight
from coupon_service.web.app import create_app
from tests.state import (
    KEYS,
    assert_consistent,
    config_with,
    coupons_on,
    drain,
    everything,
    installation_on,
    load_format_1,
    operations_on,
    worker_on,
)

END = 4_102_444_800_000
RETENTION = int(Config.retention * 1000)


@pytest.fixture
def old(client):
    """A server with the data of format 1: PLAIN (issued to u1, u2, p1 and p2; u3 cancelled),
    SUMMER, which expires in 2100 (issued to u1 and u2, p1 and p2 pending), and UNUSED."""
    load_format_1(client)
    client.xgroup_create(KEYS.requests, GROUP, id="0")
    client.xreadgroup(GROUP, "dead", {KEYS.requests: ">"}, count=1)
    return client


def expiring(client):
    return {key for key in client.scan_iter() if client.pttl(key) >= 0}


def test_data_of_format_1_loses_its_ttls_and_nothing_else(old):
    before = everything(old)
    assert len(expiring(old)) == 7
    assert installation_on(old).migration.run() == 3
    assert expiring(old) == set()
    after = everything(old)
    assert after.pop(KEYS.format) == "2"
    assert after.pop(KEYS.removals) == [("SUMMER", pytest.approx(END + RETENTION, abs=60_000))]
    assert after.pop(KEYS.coupons) == [(name, 0) for name in sorted(before.pop(KEYS.coupons))]
    assert after == before


def test_converted_coupons_go_on(old):
    installation_on(old).migration.run()
    drain(old, worker_on(old, claim_idle_ms=1))
    coupons, operations = coupons_on(old), operations_on(old)
    assert_consistent(old, "PLAIN", "SUMMER", "UNUSED")
    assert coupons.user("SUMMER", "p2")["status"] == "issued"
    assert [each["couponId"] for each in operations.coupons(10)] == ["PLAIN", "SUMMER", "UNUSED"]
    coupons.register(Registration("SUMMER", 6, {"expiresAt": None}))
    assert old.zcard(KEYS.removals) == 0
    operations.delete("PLAIN")
    assert not list(old.scan_iter(KEYS.coupon("PLAIN") + "*"))


@pytest.mark.parametrize("calls", range(7))
def test_conversion_that_was_interrupted_is_completed(old, calls):
    installation = installation_on(old)
    migrate, done = installation.worker_scripts.migrate, []

    def interrupted(coupon_id):
        if len(done) == calls:
            raise ConnectionError("killed")
        done.append(migrate(coupon_id))

    installation.worker_scripts.migrate = interrupted
    try:
        installation.migration.run()
    except ConnectionError:
        assert old.get(KEYS.format) is None
    installation_on(old).migration.run()
    assert expiring(old) == set()
    assert old.zrange(KEYS.coupons, 0, -1) == ["PLAIN", "SUMMER", "UNUSED"]
    assert old.zrange(KEYS.removals, 0, -1) == ["SUMMER"]


def test_until_it_is_converted_requests_are_served_and_the_rest_is_503(old):
    coupons = coupons_on(old)
    assert coupons.request("SUMMER", "new", "r")["status"] == "pending"
    assert coupons.user("PLAIN", "u1")["status"] == "issued"
    before = everything(old)
    with pytest.raises(Unavailable):
        coupons.register(Registration("NEW", 1))
    with pytest.raises(Unavailable):
        operations_on(old).coupons(10)
    with pytest.raises(Unavailable):
        operations_on(old).delete("PLAIN")
    assert everything(old) == before
    installation_on(old).migration.run()
    drain(old, worker_on(old, claim_idle_ms=1))
    assert coupons.user("SUMMER", "new")["status"] == "issued"


@pytest.mark.parametrize("key", ["coupon", "issuances"])
def test_corrupt_coupon_is_converted_with_the_others_and_can_be_deleted(old, key):
    corrupt = getattr(KEYS, key)("PLAIN")
    old.delete(corrupt)
    old.set(corrupt, "another type")
    assert installation_on(old).migration.run() == 3
    assert expiring(old) == set()
    operations_on(old).delete("PLAIN")
    assert old.zrange(KEYS.coupons, 0, -1) == ["SUMMER", "UNUSED"]


def test_issuance_without_a_user_does_not_stop_the_conversion(old):
    old.xadd(KEYS.issuances("PLAIN"), {"x": "y"})
    assert installation_on(old).migration.run() == 3
    assert expiring(old) == set()


def test_number_of_partitions_that_is_none_is_told(client):
    client.set(Keys("{0}:").partitions, "many")
    with pytest.raises(UnusableData, match="the data has many partitions"):
        installation_on(client).migration.run()


def test_worker_converts_before_it_decides(old):
    worker = worker_on(old)
    worker.run_once = lambda: setattr(worker, "stopping", True) or 0
    worker.run()
    assert old.get(KEYS.format) == "2"


def test_ttls_that_came_back_are_removed_when_the_format_number_is_deleted(old):
    """As when a worker of the old version has gone on beside the new one."""
    installation_on(old).migration.run()
    for key in (KEYS.pending("SUMMER"), KEYS.issuances("SUMMER"), KEYS.user("SUMMER", "u1")):
        old.pexpireat(key, END)
    old.delete(KEYS.format)
    installation_on(old).migration.run()
    assert expiring(old) == set()


def test_empty_server_has_the_format_of_this_version(client):
    assert installation_on(client).migration.run() == 0
    assert everything(client) == {KEYS.format: "2"}


def test_data_of_a_later_version_is_refused_in_one_line(client, caplog):
    client.set(KEYS.format, "3")
    with pytest.raises(UnusableData, match="the data is of format 3, this version knows 2"):
        worker_on(client).run()
    app = create_app(config_with(admin_token="x"), client)
    with pytest.raises(SystemExit):
        preflight.check(app.extensions["coupon_service"])
    [line] = caplog.messages
    assert "format 3" in line
    assert everything(client) == {KEYS.format: "3"}
