"""The answers of the API are counted, each once, whichever process and way has given it."""

import os
import signal
from collections.abc import Callable
from threading import Thread

import fakeredis
import pytest
from werkzeug.test import Client

from coupon_service.web import fast_path
from coupon_service.web.app import create_app
from coupon_service.web.http_counters import BOUNDS, OTHER, HttpCounters
from tests.state import config_with

REQUEST = "/api/coupons/request"


@pytest.fixture(params=["Flask", "fast path"])
def http(request):
    """A client of a service whose answers nobody has counted before."""
    app = create_app(config_with(admin_token="secret"), fakeredis.FakeRedis(
        decode_responses=True, protocol=2
    ))
    app.http_counters = HttpCounters(tuple(rule.rule for rule in app.url_map.iter_rules()))
    client = Client(app if request.param == "Flask" else fast_path.put_before(app))
    client.counters = app.http_counters
    return client


@pytest.mark.parametrize("method, path, status, route", [
    ("POST", REQUEST, 404, REQUEST),
    ("GET", REQUEST, 405, OTHER),
    ("GET", "/api/coupons/A", 404, "/api/coupons/<coupon_id:coupon_id>"),
    ("HEAD", "/api/coupons/A", 404, "/api/coupons/<coupon_id:coupon_id>"),
    ("GET", "/api/coupons", 401, "/api/coupons"),
    ("OPTIONS", "/api/coupons", 200, "/api/coupons"),
    ("GET", "/api/coupons/A/users/a/b/c", 404,
     "/api/coupons/<coupon_id:coupon_id>/users/<user_id:user_id>"),
    ("GET", "/no/such/path", 404, OTHER),
    ("BREW", "/healthz", 405, OTHER),
])
def test_answer_is_counted_by_rule_method_and_status(http, method, path, status, route):
    answer = http.open(path, method=method, json={"couponId": "A", "userId": "u"})
    assert answer.status_code == status
    known = method if method != "BREW" else OTHER
    answers, durations = http.counters.read()
    assert answers == {(route, known, str(status)): 1}
    assert durations.keys() == {route}
    assert sum(durations[route].counts) == 1
    assert 0 < durations[route].seconds < 5


def test_answers_of_error_handlers_and_defects_are_counted(http, monkeypatch):
    def defect(*_):
        raise RuntimeError

    for headers in ({"Content-Type": "text/plain"}, {"Content-Type": "application/json"}):
        http.post(REQUEST, data="{", headers=headers)
    monkeypatch.setattr("coupon_service.coupons.Coupons.request", defect)
    http.post(REQUEST, json={"couponId": "A", "userId": "u"})
    assert http.counters.read().answers == {
        (REQUEST, "POST", status): 1 for status in ("415", "400", "500")
    }


def counted(counters):
    return sum(counters.read().answers.values())


def test_answers_of_threads_are_counted_each_once():
    counters = HttpCounters(("/a",))

    def count():
        for number in range(20_000):
            counters.count("/a", "GET", 200 + number % 2, 10**6)

    threads = [Thread(target=count) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    answers, durations = counters.read()
    assert answers == {("/a", "GET", "200"): 40_000, ("/a", "GET", "201"): 40_000}
    assert durations["/a"].counts == [80_000] + [0] * len(BOUNDS)
    assert durations["/a"].seconds == pytest.approx(80)


@pytest.mark.parametrize("seconds, place", [
    (0, 0), (0.001, 0), (0.0011, 1), (2.5, len(BOUNDS) - 1), (99, len(BOUNDS)),
])
def test_duration_is_counted_at_the_least_bound_that_it_does_not_exceed(seconds, place):
    counters = HttpCounters(("/a",))
    counters.count("/a", "GET", 200, int(seconds * 1e9))
    counts = counters.read().durations["/a"].counts
    assert [number for number, count in enumerate(counts) if count] == [place]


def test_unknown_labels_are_counted_together():
    counters = HttpCounters(("/a",))
    for number in range(100):
        counters.count(f"/{number}", f"M{number}", 600 + number, 1)
    assert counters.read().answers == {(OTHER, OTHER, OTHER): 100}


class Child:
    """A forked process that counts, and reads, when it is told to, until it is killed."""

    def __init__(self, counters: HttpCounters) -> None:
        read, self._tell = os.pipe()
        self._answered, write = os.pipe()
        self._pid = os.fork()
        if not self._pid:
            while step := os.read(read, 1):
                counters.count("/a", "GET", 200, 1)
                counters.read()
                os.write(write, step)

    def count(self) -> None:
        os.write(self._tell, b".")
        assert os.read(self._answered, 1) == b"."

    def kill(self) -> None:
        os.kill(self._pid, signal.SIGKILL)
        os.waitpid(self._pid, 0)


@pytest.fixture
def fork():
    children: list[Child] = []

    def fork(counters: HttpCounters) -> Child:
        children.append(Child(counters))
        return children[-1]

    yield fork
    for child in children:
        try:
            child.kill()
        except ProcessLookupError:
            pass


def test_counts_of_a_killed_process_stay_and_its_successor_goes_on(fork: Callable[..., Child]):
    counters = HttpCounters(("/a",))
    counters.count("/a", "GET", 200, 1)
    row = os.fstat(counters._file).st_size
    first, second = fork(counters), fork(counters)
    for _ in range(3):
        first.count()
        second.count()
    assert counted(counters) == 7
    assert os.fstat(counters._file).st_size == 3 * row
    first.kill()
    assert counted(counters) == 7
    third = fork(counters)
    third.count()
    second.count()
    assert counted(counters) == 9
    # It has taken the row of the one that was killed.
    assert os.fstat(counters._file).st_size == 3 * row
