"""Workers that share the partitions out, and processes that know another number of them."""

import signal
import sys
import time

import pytest

from coupon_service.config import Config
from coupon_service.installation import Partitions
from coupon_service.scripts import Registration
from tests.processes import Process, free_port, wait_until, worker
from tests.state import assert_consistent, backlog

COUNT = 4
IDS = [f"C{number:02}" for number in range(20)]
SETTINGS = {"COUPON_PARTITIONS": str(COUNT)}


@pytest.fixture
def data(own_server):
    """Twenty coupons over four partitions, each requested by one user."""
    data = Partitions(Config(redis_url=own_server.url, partitions=COUNT), None, 5)
    data.register(*(Registration(coupon_id, 5) for coupon_id in IDS))
    for coupon_id in IDS:
        data.of(coupon_id).coupons.request(coupon_id, "u", "r")
    return data


def waiting(data):
    """The partitions with entries that are not decided."""
    return {
        each.partition for each in data if each.client.xlen(each.keys.requests)
    }


def test_each_worker_decides_for_the_partitions_that_it_serves(own_server, data, launch, tmp_path):
    first = launch(worker(own_server.url, tmp_path / "first.log", **SETTINGS,
                          COUPON_WORKER_PARTITIONS="0-1"))
    wait_until(lambda: waiting(data) == {2, 3}, "its partitions to be decided")
    second = launch(worker(own_server.url, tmp_path / "second.log", **SETTINGS,
                           COUPON_WORKER_PARTITIONS="3,2"))
    wait_until(lambda: backlog(data) == 0, "the others to be decided")
    assert_consistent(data, *IDS)
    started = time.monotonic()
    for process in (first, second):
        process.signal(signal.SIGTERM)
    for process in (first, second):
        assert process.wait() == 0
        assert process.output().count("worker stops") == 2
    assert time.monotonic() - started < 3


@pytest.mark.parametrize("number", [8, 1])
def test_another_number_of_partitions_is_one_line_that_says_what_to_do(
    own_server, data, launch, tmp_path, number
):
    right = launch(worker(own_server.url, tmp_path / "right.log", **SETTINGS))
    wait_until(lambda: backlog(data) == 0, "the number to be recorded")
    right.stop()
    variables = {"COUPON_PARTITIONS": str(number), "PORT": str(free_port())}
    wrong = launch(worker(own_server.url, tmp_path / "wrong.log", **variables))
    assert wrong.wait() == 1
    line = (f"the data has 4 partitions and COUPON_PARTITIONS is {number}: set it to 4, or use an "
            "empty Redis or another COUPON_KEY_PREFIX")
    assert wrong.output() == f"{line}\n"
    api = launch(Process(
        [sys.executable, "-m", "gunicorn", "wsgi:app"], tmp_path / "api.log",
        REDIS_URL=own_server.url, WEB_CONCURRENCY="1", **variables,
    ).start())
    assert api.wait() == 3
    assert api.output().count(line) == 1
