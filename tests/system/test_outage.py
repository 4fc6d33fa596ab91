"""Whatever keeps Redis from serving: 503 in bounded time, and everybody recovers alone."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from itertools import count, islice

import pytest

from coupon_service.web import preflight
from coupon_service.web.app import create_app
from coupon_service.circuit_breaker import PROBE_EVERY
from coupon_service.config import Config
from coupon_service.connection import connect
from coupon_service.keys import GROUP
from tests.system import faults
from tests.load import Client
from tests.processes import PATIENCE, assert_in_time, gunicorn, wait_until, worker
from tests.state import KEYS, PARTITIONS, assert_consistent, config_with, decided, drain, worker_on

#: Seconds within which every answer must be there.
LIMIT = 2.0


@pytest.fixture
def api(own_server):
    return create_app(config_with(redis_url=own_server.url)).test_client()


def ask(api, user):
    return api.post("/api/coupons/request", json={"couponId": "A", "userId": user})


@pytest.mark.parametrize("fault", faults.FAULTS)
def test_outage_is_503_in_time_and_everybody_recovers(own_server, launch, api, tmp_path, fault):
    process = launch(worker(own_server.url, tmp_path / "worker.log"))
    api.post("/api/coupons/register", json={"couponId": "A", "quantity": 9})
    assert ask(api, "before").status_code == 200
    wait_until(lambda: status(api, "before") == "issued", "the first request to be issued")

    def longest_answer(number):
        seconds = []
        with faults.FAULTS[fault](own_server):
            for _ in range(3):
                started = time.monotonic()
                answer = ask(api, "during")
                seconds.append(time.monotonic() - started)
                assert (answer.status_code, answer.json["code"]) == (503, "unavailable")
                assert answer.headers["Retry-After"] == "1"
        wait_until(lambda: ask(api, f"after{number}").status_code in (200, 409), "the API")
        wait_until(lambda: status(api, f"after{number}") == "issued", "the worker to recover")
        return max(seconds)

    assert_in_time(LIMIT, longest_answer)
    assert process.popen.poll() is None
    assert_consistent(own_server.client(), "A")


def status(api, user):
    return api.get(f"/api/coupons/A/users/{user}").json.get("status")


@pytest.mark.parametrize("fault", ["refused", "hung", "read_only", "password_changed"])
def test_worker_logs_an_outage_once_and_its_length_when_it_is_over(
    own_server, launch, tmp_path, fault
):
    process = launch(worker(own_server.url, tmp_path / "worker.log"))
    wait_until(lambda: own_server.client().exists(KEYS.requests), "the worker to start")
    with faults.FAULTS[fault](own_server):
        wait_until(
            lambda: process.output().count("waiting for redis") == PARTITIONS,
            "all partitions to log the outage",
        )
        time.sleep(1.5)  # three more tries
    wait_until(lambda: "redis is back after" in process.output(), "the recovery to be logged")
    assert process.output().count("waiting for redis") == PARTITIONS
    wait_until(
        lambda: process.output().count("redis is back after") == PARTITIONS, "all partitions"
    )


def test_worker_that_starts_before_redis_waits_for_it(own_server, launch, tmp_path):
    with faults.refused(own_server):
        process = launch(worker(own_server.url, tmp_path / "worker.log"))
        wait_until(lambda: "waiting for redis" in process.output(), "the worker to wait")
    wait_until(lambda: own_server.client().exists(KEYS.requests), "the worker to go on")


def test_worker_drains_while_the_server_is_out_of_memory(own_server, launch, api, tmp_path):
    api.post("/api/coupons/register", json={"couponId": "A", "quantity": 50})
    for number in range(50):
        assert ask(api, f"u{number}").status_code == 200
    client = own_server.client()
    client.xadd(KEYS.requests, {"couponId": "A"})
    client.xgroup_create(KEYS.requests, GROUP, id="0")
    with faults.out_of_memory(own_server):
        launch(worker(own_server.url, tmp_path / "worker.log"))
        wait_until(lambda: client.xlen(KEYS.requests) == 0, "everything to be decided")
    assert len(decided(client)) == 50
    assert client.xlen(KEYS.dead) == 1
    assert_consistent(client, "A")


def test_hung_server_makes_no_requests_pile_up(own_server, launch, tmp_path):
    process, url = gunicorn(own_server.url, tmp_path / "web.log")
    launch(process)
    Client(url).register("A", 10_000)
    numbers = count()

    def one(number):
        started = time.monotonic()
        if number % 2:
            status = Client(url).ask("A", f"u{number}").status
        else:
            status = Client(url).call("GET", "/A")[0]
        return status, time.monotonic() - started

    def answers_to_many():
        with ThreadPoolExecutor(64) as pool:
            return list(pool.map(one, islice(numbers, 300)))

    def longest_answer(_):
        # Every connection that the reads use is open, and waits for a reply that does not come.
        wait_until(lambda: {status for status, _ in answers_to_many()} == {200}, "all processes")
        with faults.hung(own_server):
            answers = answers_to_many()
        assert {status for status, _ in answers} == {503}
        return max(seconds for _, seconds in answers)

    assert_in_time(LIMIT, longest_answer)
    wait_until(lambda: Client(url).ask("A", "after").status in (200, 409), "the API to recover")


def test_gate_lets_one_request_a_second_try_a_server_that_does_not_answer(own_server, api):
    assert ask(api, "u").status_code == 404
    with faults.hung(own_server):
        began, seconds = time.monotonic(), []
        for _ in range(101):
            started = time.monotonic()
            assert ask(api, "u").status_code == 503
            seconds.append(time.monotonic() - started)
        total = time.monotonic() - began
    wait = 2 * Config.redis_timeout  # for two replies that do not come
    tried = [each for each in seconds if each > 0.75 * wait]
    assert tried[0] == seconds[0] and len(tried) <= 1 + total / (wait + PROBE_EVERY)


def test_sigterm_under_load_answers_everything_that_was_taken(own_server, launch, tmp_path):
    """The API and the worker are stopped in the middle: accepted requests are issued later."""
    def seconds_to_stop(_):
        own_server.client().flushall()
        return stop_under_load(own_server, launch, tmp_path)

    assert_in_time(LIMIT, seconds_to_stop)


def stop_under_load(own_server, launch, tmp_path):
    """Return how many seconds the worker took."""
    process, url = gunicorn(own_server.url, tmp_path / "web.log")
    launch(process)
    deciding = launch(worker(own_server.url, tmp_path / "worker.log"))
    Client(url).register("A", 10_000)
    accepted, broken, enough = [], [], threading.Event()

    def keep_asking(name):
        client = Client(url)
        for number in range(10_000):
            try:
                answer = client.ask("A", f"{name}-{number}")
            except OSError:
                return  # refused or closed: the API is gone
            except Exception as error:
                broken.append(error)
                return
            assert answer.status == 200, answer
            accepted.append(answer.user)
            if len(accepted) > 200:
                enough.set()

    with ThreadPoolExecutor(8) as pool:
        running = [pool.submit(keep_asking, f"c{number}") for number in range(8)]
        assert enough.wait(PATIENCE)
        process.popen.terminate()
        deciding.popen.terminate()
        started = time.monotonic()
        assert deciding.wait() == 0
        seconds = time.monotonic() - started
        assert process.wait() == 0
        for future in running:
            future.result()
    assert broken == []
    client = own_server.client()
    assert client.xinfo_consumers(KEYS.requests, GROUP) == []
    last = launch(worker(own_server.url, tmp_path / "worker.log"))
    wait_until(lambda: client.xlen(KEYS.requests) == 0, "the rest to be decided")
    issued = {entry["userId"] for _, entry in decided(client)}
    assert set(accepted) <= issued
    assert_consistent(client, "A")
    last.stop()
    return seconds


def test_worker_stops_in_time_while_the_server_hangs(own_server, launch, tmp_path):
    def seconds_to_stop(number):
        process = launch(worker(own_server.url, tmp_path / f"worker{number}.log"))
        wait_until(
            lambda: process.output().count("worker starts") == PARTITIONS, "the worker to start"
        )
        with faults.hung(own_server):
            started = time.monotonic()
            process.popen.terminate()
            assert process.wait() == 0
            return time.monotonic() - started

    assert_in_time(LIMIT, seconds_to_stop)


def test_app_boots_without_redis_and_says_what_to_start(own_server, caplog):
    with faults.refused(own_server):
        app = create_app(config_with(redis_url=own_server.url, admin_token="x"))
        preflight.check(app.extensions["coupon_service"])
    assert len(caplog.messages) == 1
    assert "flask up redis" in caplog.messages[0]


def test_administrators_free_memory_while_the_server_has_none(own_server, coupons_with_admin):
    client, http = own_server.client(), coupons_with_admin
    with faults.out_of_memory(own_server):
        for method, path in (
            ("POST", "/A/close"), ("DELETE", "/A/users/issued"), ("DELETE", "/A/users/pending"),
        ):
            assert http(method, path).status_code == 200
            assert_consistent(client, "A")
        assert client.hexists(KEYS.coupon("A"), "closesAt")
        assert http("DELETE", "/A").status_code == 200
    assert [line["decision"] for _, line in decided(client)] == [
        "issued", "cancelled", "withdrawn",
    ]
    assert list(client.scan_iter(KEYS.coupon("A") + "*")) == []


@pytest.fixture
def coupons_with_admin(own_server):
    """Coupon A, issued to one user and pending for another; a call of the API as administrator."""
    config = config_with(redis_url=own_server.url, admin_token="x")
    http, headers = create_app(config).test_client(), {"Authorization": "Bearer x"}
    http.post("/api/coupons/register", json={"couponId": "A", "quantity": 5}, headers=headers)
    http.post("/api/coupons/request", json={"couponId": "A", "userId": "issued"})
    drain(own_server.client(), worker_on(connect(config, 5, 0)))
    http.post("/api/coupons/request", json={"couponId": "A", "userId": "pending"})
    return lambda method, path: http.open(f"/api/coupons{path}", method=method, headers=headers)


def test_command_that_is_not_allowed_is_no_outage(own_server, api, caplog):
    api.post("/api/coupons/register", json={"couponId": "A", "quantity": 9})
    own_server.client().execute_command("ACL", "SETUSER", "default", "-evalsha", "-eval")
    answer = ask(api, "u")
    assert (answer.status_code, answer.json["code"]) == (500, "misconfigured")
    assert [line for line in caplog.messages if "NOPERM" in line or "no permissions" in line]
    assert not [line for line in caplog.messages if "waiting for redis" in line]
    assert api.get("/api/coupons/A").status_code == 200
