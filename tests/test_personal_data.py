"""A user leaves nothing behind where docs/operations.md says so."""

import pytest
from click.testing import CliRunner

from coupon_service.cli.coupons import coupons as command
from coupon_service.scripts import Registration
from tests.state import KEYS, coupons_on, drain, everything, operations_on, worker_on

USER = "someone"


@pytest.fixture
def campaign(real_client):
    """Coupon A, issued to the user and to another one; and a request of the user for more."""
    coupons = coupons_on(real_client)
    coupons.register(Registration("A", 5))
    for user in (USER, "another"):
        coupons.request("A", user, f"r-{user}")
    drain(real_client, worker_on(real_client))
    return real_client


def places_of(client):
    """The keys whose name or value has the userId."""
    return {key for key, value in everything(client).items() if USER in f"{key} {value}"}


def test_records_of_a_user_are_where_the_page_says(campaign):
    assert places_of(campaign) == {KEYS.user("A", USER), KEYS.issuances("A"), KEYS.log}
    coupons_on(campaign).register(Registration("B", 1))
    coupons_on(campaign).request("B", USER, "r")
    assert {KEYS.pending("B"), KEYS.of("B").requests} < places_of(campaign)


def test_cancellation_and_xdel_leave_nothing_of_a_user_and_reconcile_agrees(
    campaign, shared_server, monkeypatch
):
    operations_on(campaign).cancel("A", USER)
    assert places_of(campaign) == {KEYS.log}
    coupons_on(campaign).request("A", "a later one", "r")
    drain(campaign, worker_on(campaign))
    lines = [line for line, entry in campaign.xrange(KEYS.log) if entry.get("userId") == USER]
    assert campaign.xdel(KEYS.log, *lines) == 2
    assert places_of(campaign) == set()
    monkeypatch.setenv("REDIS_URL", shared_server.url)
    assert "1 coupons, 0 disagreements" in CliRunner().invoke(command, ["reconcile"]).output


def test_deleted_coupon_leaves_its_users_in_the_log_alone(campaign):
    operations_on(campaign).delete("A")
    assert places_of(campaign) == {KEYS.log}
