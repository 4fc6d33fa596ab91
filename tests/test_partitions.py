"""Coupons that are spread over partitions."""

from zlib import crc32

import pytest
from redis import Redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from coupon_service.config import Config
from coupon_service.errors import QuantityTooLow, UnknownCoupon
from coupon_service.installation import Installation, Partitions
from coupon_service.migration import UnusableData
from coupon_service.scripts import Registration
from coupon_service.web.app import create_app
from tests.state import everything
from worker import Worker, run

COUNT = 4
CONFIG = Config(partitions=COUNT, admin_token="x")
ADMIN = {"Authorization": "Bearer x"}
IDS = [f"C{number:02}" for number in range(20)]


def partition_of(coupon_id):
    return crc32(coupon_id.encode()) % COUNT


@pytest.fixture
def partitions(client):
    return Partitions(CONFIG, client)


@pytest.fixture
def app(client):
    return create_app(CONFIG, client)


@pytest.fixture
def http(app):
    return app.test_client()


@pytest.fixture
def registered(partitions):
    partitions.register(*(Registration(coupon_id, 5) for coupon_id in IDS))
    assert {partition_of(coupon_id) for coupon_id in IDS} == set(range(COUNT))


def fail(app, *numbers):
    """Let partitions be on a server that is not there."""
    gone = Redis(port=1, retry=Retry(NoBackoff(), 0))
    for number in numbers:
        app.extensions["coupon_service"]._all[number] = Installation(CONFIG, gone, number)


def test_coupon_is_in_the_partition_that_its_crc32_names(client, http):
    for coupon_id in IDS:
        http.post("/api/coupons/register", headers=ADMIN,
                  json={"couponId": coupon_id, "quantity": 5})
        http.post("/api/coupons/request", json={"couponId": coupon_id, "userId": "u"})
        prefix = f"{{{partition_of(coupon_id)}}}:"
        assert client.get(f"{prefix}coupon:{coupon_id}:requested") == "1"
    assert all(key.startswith("{") for key in everything(client))
    requested = sum(client.xlen(f"{{{number}}}:coupon-requests") for number in range(COUNT))
    assert requested == len(IDS)


def test_list_goes_through_the_coupons_of_all_partitions_by_id(http, registered):
    listed, after = [], ""
    while True:
        page = http.get(f"/api/coupons?limit=3&after={after}" if after else "/api/coupons?limit=3",
                        headers=ADMIN).json
        listed += [coupon["couponId"] for coupon in page["coupons"]]
        assert "missingPartitions" not in page
        after = page["next"]
        if not after:
            break
    assert listed == IDS


def test_partition_that_fails_leaves_the_others_usable_and_lists_say_so(app, http, registered):
    for coupon_id in IDS:
        http.post("/api/coupons/request", json={"couponId": coupon_id, "userId": "u"})
    fail(app, 1, 3)
    for coupon_id in IDS:
        answer = http.post("/api/coupons/request", json={"couponId": coupon_id, "userId": "v"})
        assert answer.status_code == (503 if partition_of(coupon_id) in (1, 3) else 200)
    page = http.get("/api/coupons", headers=ADMIN)
    assert page.status_code == 200
    assert page.json["missingPartitions"] == [1, 3]
    assert [coupon["couponId"] for coupon in page.json["coupons"]] == [
        coupon_id for coupon_id in IDS if partition_of(coupon_id) in (0, 2)
    ]
    held = http.get("/api/users/u/coupons", headers=ADMIN)
    assert (held.status_code, held.json["missingPartitions"]) == (200, [1, 3])


def test_list_is_503_when_every_partition_fails(app, http, registered):
    fail(app, *range(COUNT))
    for path in ("/api/coupons", "/api/users/u/coupons"):
        assert http.get(path, headers=ADMIN).status_code == 503


def test_coupons_of_a_user_are_those_of_all_partitions(client, partitions, http, registered):
    for coupon_id in IDS[:7]:
        partitions.of(coupon_id).coupons.request(coupon_id, "u", "r")
    for installation in partitions:
        worker = Worker(installation)
        while client.xlen(installation.keys.requests):
            worker.run_once()
    held = http.get("/api/users/u/coupons", headers=ADMIN).json["coupons"]
    assert [each["couponId"] for each in held] == IDS[:7]


def test_registrations_over_several_partitions_are_all_checked_first(client, partitions):
    partitions.register(Registration("C05", 5))
    for number in range(3):
        partitions.of("C05").coupons.request("C05", f"u{number}", "r")
    before = everything(client)
    with pytest.raises(QuantityTooLow, match="3 places of C05"):
        partitions.register(*(Registration(coupon_id, 2) for coupon_id in IDS))
    assert everything(client) == before
    answers = partitions.register(*(Registration(coupon_id, 3) for coupon_id in IDS))
    assert [answer["couponId"] for answer in answers] == IDS
    assert {answer["quantity"] for answer in answers} == {3}


@pytest.mark.parametrize("before, after", [(4, 8), (4, 1), (1, 4), (4, 2)])
def test_another_number_of_partitions_is_refused(client, before, after):
    for installation in Partitions(Config(partitions=before), client):
        installation.migration.run()
    refused = 0
    for installation in Partitions(Config(partitions=after), client):
        try:
            installation.migration.check()
        except UnusableData as error:
            refused += 1
            assert str(error).startswith(
                f"the data has {before} partitions and COUPON_PARTITIONS is {after}: set it to "
            )
    assert refused == min(before, after) or before == 1 and refused == after
    for installation in Partitions(Config(partitions=before), client):
        assert installation.migration.check()


def test_worker_that_fails_ends_all_of_its_process(client, partitions, monkeypatch):
    def end_or_wait(worker):
        if worker._label.endswith("=2"):
            raise RuntimeError("a defect")
        while not worker.stopping:
            pass

    monkeypatch.setattr(Worker, "run", end_or_wait)
    with pytest.raises(RuntimeError, match="a defect"):
        run([Worker(installation) for installation in partitions])


def test_unknown_coupon_is_unknown_in_every_partition(partitions):
    for coupon_id in IDS:
        with pytest.raises(UnknownCoupon):
            partitions.of(coupon_id).coupons.snapshot(coupon_id)
