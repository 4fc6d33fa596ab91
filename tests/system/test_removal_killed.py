"""Workers are killed in the middle of a removal."""

import pytest

from coupon_service.config import Config
from coupon_service.connection import connect
from coupon_service.errors import BeingRemoved, UnknownCoupon
from coupon_service.scripts import Registration, Request
from tests.processes import wait_until, worker
from tests.state import (
    KEYS,
    assert_consistent,
    coupons_on,
    decided,
    drain,
    operations_on,
    scripts_on,
    worker_on,
)

ISSUED, PENDING = 30_000, 3_000


def test_removal_goes_on_after_every_kill_and_leaves_nothing(own_server, launch, tmp_path):
    client = connect(Config(redis_url=own_server.url), 5)
    scripts, coupons = scripts_on(client), coupons_on(client)
    scripts.register([Registration("A", ISSUED + PENDING)])
    decides = worker_on(client, worker_batch=1000)
    for start in range(0, ISSUED + PENDING, 500):
        if start == ISSUED:
            drain(client, decides)
        requests = [Request("A", f"u{number}", "r") for number in range(start, start + 500)]
        assert scripts.admit(requests) == [["accepted"]] * 500
    drained = len(decided(client))
    answer = operations_on(client).delete("A")
    assert (answer["issued"], answer["refused"]) == (ISSUED, PENDING)

    for left in (24_000, 16_000, 8_000):
        victim = launch(worker(own_server.url, tmp_path / f"worker{left}.log"))
        wait_until(lambda left=left: client.xlen(KEYS.issuances("A")) < left, "pages to be removed")
        victim.stop()
        assert client.xlen(KEYS.issuances("A")) > 0
        with pytest.raises(UnknownCoupon):
            coupons.snapshot("A")
        with pytest.raises(BeingRemoved):
            coupons.register(Registration("A", 1))
    for number in range(2):
        launch(worker(own_server.url, tmp_path / f"last{number}.log"))
    wait_until(lambda: not client.exists(KEYS.removals), "the removal to be completed")
    assert list(client.scan_iter(KEYS.coupon("A") + "*")) == []
    refused = [line for _, line in decided(client)][drained:]
    assert {line["decision"] for line in refused} == {"unknown_coupon"}
    assert len({line["userId"] for line in refused}) == len(refused) == PENDING
    assert client.xlen(KEYS.requests) == 0

    coupons.register(Registration("A", 1))
    coupons.request("A", "u0", "r")
    wait_until(lambda: coupons.user("A", "u0")["status"] == "issued", "the new life to be issued")
    assert_consistent(client, "A")


def test_worker_ends_with_one_line_where_the_data_is_of_a_later_version(
    own_server, launch, tmp_path
):
    own_server.client().set(KEYS.format, "3")
    process = launch(worker(own_server.url, tmp_path / "worker.log"))
    assert process.wait() == 1
    last = process.output().splitlines()[-1]
    assert last.startswith("the data is of format 3, this version knows 2")
