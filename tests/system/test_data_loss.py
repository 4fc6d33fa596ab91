"""Data that is lost under the service: what is left agrees, and every process goes on."""

import time
from contextlib import nullcontext

import pytest

from coupon_service.config import Config
from coupon_service.connection import connect
from coupon_service.errors import SoldOut
from coupon_service.keys import GROUP
from coupon_service.admin.reconcile import Reconciliation
from coupon_service.scripts import Registration
from tests.processes import wait_until, worker
from tests.state import (
    KEYS,
    PARTITIONS,
    assert_consistent,
    coupons_on,
    decided,
    drain,
    installation_on,
    worker_on,
)


@pytest.fixture
def coupons_of(own_server):
    return coupons_on(connect(Config(redis_url=own_server.url), 5))


def blocked(client):
    """Whether a worker waits in XREADGROUP."""
    return client.info("clients")["blocked_clients"] > 0


def aof_tail(server):
    """The file that the server appends to, in the folder layouts of Redis 6.2 and 7."""
    parts = [*server.folder.glob("appendonlydir/*.incr.aof"), *server.folder.glob("*.aof")]
    return max(parts, key=lambda part: part.stat().st_mtime)


@pytest.mark.parametrize("cut", [1, 7, 60, 150, 333, 1000])
def test_torn_aof_tail_never_splits_a_script(own_server, coupons_of, cut):
    client = own_server.client()
    coupons_of.register(Registration("A", 100))
    for number in range(20):
        coupons_of.request("A", f"u{number}", "r")
    deciding = worker_on(connect(Config(redis_url=own_server.url), 5, 0))
    drain(client, deciding)
    for number in range(20, 30):
        coupons_of.request("A", f"u{number}", "r")
    own_server.stop()
    with aof_tail(own_server).open("r+b") as aof:
        aof.truncate(aof_tail(own_server).stat().st_size - cut)
    own_server.start()
    client = own_server.client()
    assert_consistent(client, "A")
    assert client.xlen(KEYS.requests) == client.hlen(KEYS.pending("A")) < 10
    drain(client, worker_on(connect(Config(redis_url=own_server.url), 5, 0)))
    assert_consistent(client, "A")
    assert client.hlen(KEYS.pending("A")) == 0


def lose_group(client):
    client.xgroup_destroy(KEYS.requests, GROUP)


def lose_stream(client):
    client.delete(KEYS.requests)


def lose_everything(client):
    client.flushall()


@pytest.mark.parametrize("lose", [lose_group, lose_stream, lose_everything])
def test_worker_goes_on_when_what_it_waits_for_is_lost(
    own_server, launch, coupons_of, tmp_path, lose
):
    process = launch(worker(own_server.url, tmp_path / "worker.log"))
    client = own_server.client()
    wait_until(lambda: client.exists(KEYS.requests), "the worker to read requests")
    wait_until(lambda: blocked(client), "the worker to wait for them")
    lose(client)
    coupons_of.register(Registration("A", 5))
    coupons_of.request("A", "u", "r")
    wait_until(lambda: coupons_of.user("A", "u")["status"] == "issued", "the request to be issued")
    assert process.popen.poll() is None
    assert_consistent(client, "A")


def ten_accepted_five_held(client, coupons):
    """Coupon A with ten admitted requests, of which a dead worker holds five."""
    coupons.register(Registration("A", 10))
    for number in range(10):
        coupons.request("A", f"u{number}", "r")
    client.xgroup_create(KEYS.requests, GROUP, id="0")
    client.xreadgroup(GROUP, "dead", {KEYS.requests: ">"}, count=5)


def test_lost_group_loses_neither_unread_nor_pending_entries(
    own_server, launch, coupons_of, tmp_path
):
    client = own_server.client()
    ten_accepted_five_held(client, coupons_of)
    lose_group(client)
    launch(worker(own_server.url, tmp_path / "worker.log"))
    wait_until(lambda: client.xlen(KEYS.requests) == 0, "everything to be decided")
    assert coupons_of.snapshot("A")["issued"] == 10
    assert_consistent(client, "A")


def test_entries_trimmed_while_pending_are_shown_repaired_and_issued(
    own_server, launch, coupons_of, tmp_path
):
    client = own_server.client()
    ten_accepted_five_held(client, coupons_of)
    client.xtrim(KEYS.requests, maxlen=3, approximate=False)
    launch(worker(own_server.url, tmp_path / "worker.log", COUPON_CLAIM_IDLE_MS="100"))
    wait_until(lambda: client.xlen(KEYS.requests) == 0, "what is left to be decided")
    wait_until(lambda: client.xpending(KEYS.requests, GROUP)["pending"] == 0, "none to be held")
    assert coupons_of.snapshot("A")["issued"] == 3
    assert_consistent(client, "A")
    found = list(Reconciliation(installation_on(client), ["A"]).run(fix=True))
    assert [disagreement.repaired for disagreement in found] == [True] * 7
    wait_until(lambda: coupons_of.snapshot("A")["issued"] == 10, "everybody to get one")
    assert_consistent(client, "A")


def test_clock_that_was_set_back_changes_no_order_and_loses_nothing(real_client):
    """To a stream, a clock that was set back is one that is behind its last id."""
    tomorrow = int((time.time() + 86_400) * 1000)
    real_client.xgroup_create(KEYS.requests, GROUP, id="0", mkstream=True)
    for stream in (KEYS.requests, KEYS.log):
        real_client.xdel(stream, real_client.xadd(stream, {"x": "y"}, id=f"{tomorrow}-0"))
    coupons = coupons_on(real_client)
    coupons.register(Registration("A", 3))
    for number in range(5):
        with pytest.raises(SoldOut) if number >= 3 else nullcontext():
            coupons.request("A", f"u{number}", "r")
    drain(real_client, worker_on(real_client))
    assert [entry["userId"] for _, entry in decided(real_client)] == ["u0", "u1", "u2"]
    assert coupons.user("A", "u2")["status"] == "issued"
    assert_consistent(real_client, "A")


def test_wrong_password_is_said_clearly_and_tried_at_a_walk(own_server, launch, tmp_path):
    client = own_server.client()
    client.config_set("requirepass", "secret")
    client.execute_command("AUTH", "secret")
    before = client.info("stats")["total_connections_received"]
    url = own_server.url.replace("redis://", "redis://:wrong@")
    process = launch(worker(url, tmp_path / "worker.log"))
    wait_until(lambda: "waiting for redis" in process.output(), "the worker to say so")
    time.sleep(2)
    assert "password" in process.output().lower()
    assert process.output().count("\n") < 4 * PARTITIONS
    assert client.info("stats")["total_connections_received"] - before < 12 * PARTITIONS
    client.config_set("requirepass", "")
