"""Whether the process is alive, and whether it can serve."""

import pytest

from coupon_service.connection import connect
from coupon_service.installation import Installation
from coupon_service.scripts import Registration
from coupon_service.web.app import create_app
from tests.processes import HOST, free_port
from tests.state import KEYS, config_with, coupons_on, drain, worker_on


@pytest.fixture
def app(client):
    return create_app(config_with(admin_token="secret"), client)


@pytest.fixture
def gone():
    return connect(config_with(redis_url=f"redis://{HOST}:{free_port()}"))


def waits_in_vain(client):
    client.xadd(KEYS.requests, {"couponId": "A", "userId": "u"}, id="1000-0")


def test_process_is_alive_whatever_redis_does(gone):
    answer = create_app(config_with(), gone).test_client().get("/healthz")
    assert (answer.status_code, answer.json) == (200, {"status": "alive"})


def test_ready_tells_backlog_and_workers(app, client):
    http = app.test_client()
    assert http.get("/readyz").json == {
        "status": "ready", "backlog": 0, "oldestSeconds": 0, "workers": 0
    }
    coupons_on(client).register(Registration("A", 5))
    coupons_on(client).request("A", "u1", "r1")
    drain(client, worker_on(client))
    coupons_on(client).request("A", "u2", "r2")
    body = http.get("/readyz").json
    assert 0 <= body.pop("oldestSeconds") < 5
    assert body == {"status": "ready", "backlog": 1, "workers": 1}


def test_no_worker_is_no_reason_to_be_taken_out_of_service(app, client):
    waits_in_vain(client)
    answer = app.test_client().get("/readyz")
    assert (answer.status_code, answer.json["backlog"], answer.json["workers"]) == (200, 1, 0)
    assert answer.json["oldestSeconds"] > 1_000_000_000


def test_not_ready_while_redis_cannot_be_used(gone):
    answer = create_app(config_with(), gone).test_client().get("/readyz")
    assert (answer.status_code, answer.json["code"]) == (503, "unavailable")
    assert answer.mimetype == "application/problem+json"
    assert answer.headers["Retry-After"] == "1"


def test_ready_while_one_partition_can_be_used(fake_client, gone):
    app = create_app(config_with(partitions=3), fake_client)
    partitions = app.extensions["coupon_service"]
    for number in (0, 2):
        partitions._all[number] = Installation(config_with(partitions=3), gone, number)
    answer = app.test_client().get("/readyz")
    assert (answer.status_code, answer.json["missingPartitions"]) == (200, [0, 2])
    partitions._all[1] = Installation(config_with(partitions=3), gone, 1)
    assert app.test_client().get("/readyz").status_code == 503


def test_worker_that_is_missing_is_logged_once_and_once_when_it_is_there(app, client, caplog):
    http = app.test_client()
    coupons_on(client).register(Registration("A", 5))
    http.get("/readyz")
    assert caplog.messages == []
    waits_in_vain(client)
    for path in ("/readyz", "/metrics", "/readyz"):
        http.get(path, headers={"Authorization": "Bearer secret"})
    [line] = caplog.messages
    assert line.startswith("entries wait and no worker is there backlog=1 oldest=")
    caplog.clear()
    drain(client, worker_on(client))
    caplog.clear()
    for _ in range(2):
        http.get("/readyz")
    [line] = caplog.messages
    assert line.startswith("entries are decided again backlog=0")


def test_entry_that_a_worker_has_not_had_time_to_take_is_not_logged(app, client, caplog):
    coupons_on(client).register(Registration("A", 5))
    coupons_on(client).request("A", "u", "r")
    app.test_client().get("/readyz")
    assert caplog.messages == []


def test_consumer_that_was_silent_for_long_is_no_worker(app, client, monkeypatch):
    coupons_on(client).register(Registration("A", 5))
    coupons_on(client).request("A", "u", "r")
    drain(client, worker_on(client))
    assert app.test_client().get("/readyz").json["workers"] == 1
    monkeypatch.setattr("coupon_service.admin.monitoring.SEEN_WITHIN_MS", -1)
    assert app.test_client().get("/readyz").json["workers"] == 0
