"""COUPON_REPLICAS: what is answered "accepted" is on the replicas."""

import signal

import pytest

from coupon_service.config import Config
from coupon_service.errors import Duplicate, Unavailable
from coupon_service.installation import Partitions
from coupon_service.scripts import Registration
from tests.processes import PATIENCE, wait_until
from tests.state import KEYS, drain, partitions_on, worker_on

#: Seconds to wait for a replica that does not answer.
SHORT = 0.2


@pytest.fixture
def coupons(pair):
    """Makes the coupons of a new process, which has connections of its own.

    Where a refusal is wanted it waits a short time for the replica, else as long as it takes.
    """
    def make(replicas_timeout=PATIENCE - 1):
        config = Config(redis_url=pair.primary.url, redis_timeout=PATIENCE, replicas=1,
                        replicas_timeout=replicas_timeout, partitions=len(KEYS.all))
        return Partitions(config).of("A").coupons

    make().register(Registration("A", 5))
    return make


def test_accepted_request_is_on_the_replica(pair, coupons):
    assert coupons().request("A", "u", "r")["status"] == "pending"
    assert pair.replica.client().hkeys(KEYS.pending("A")) == ["u"]


@pytest.mark.parametrize("status", ["pending", "issued"])
def test_repetition_is_accepted_only_when_the_replica_has_it(pair, coupons, status):
    """WAIT speaks for the writes of its own connection alone, so a repetition writes again."""
    pair.replica.signal(signal.SIGSTOP)
    with pytest.raises(Unavailable):
        coupons(SHORT).request("A", "u", "r")
    if status == "issued":
        drain(pair.client(), worker_on(pair.client()))
    assert partitions_on(pair.client()).of("A").coupons.user("A", "u")["status"] == status
    for _ in range(2):
        with pytest.raises(Unavailable):
            coupons(SHORT).request("A", "u", "r")
    with pytest.raises(Duplicate):  # of a refusal nothing is lost
        coupons(SHORT).request("A", "u", "another")
    pair.replica.signal(signal.SIGCONT)
    replica = pair.replica.client()
    wait_until(lambda: replica.exists(KEYS.user("A", "u")) or replica.hexists(
        KEYS.pending("A"), "u"), "the replica to have it")
    assert coupons().request("A", "u", "r")["status"] == "pending"
    assert pair.client().get(KEYS.requested("A")) == "1"


def test_without_a_replica_nothing_is_accepted_and_refusals_go_on(pair, coupons):
    pair.replica.stop()
    for number in range(5):
        with pytest.raises(Unavailable):
            coupons(SHORT).request("A", f"u{number}", "r")
    assert partitions_on(pair.client()).of("A").coupons.snapshot("A")["state"] == "sold_out"
