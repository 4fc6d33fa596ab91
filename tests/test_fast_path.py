"""The fast path gives the answers of Flask's, whatever is asked, and steps aside for others."""

import io
import json
import re
from urllib.parse import quote

import fakeredis
import pytest
from flask import redirect, request, request_started
from hypothesis import given, settings
from hypothesis import strategies as st
from redis.exceptions import NoPermissionError
from werkzeug.test import Client, EnvironBuilder, run_wsgi_app
from werkzeug.wrappers import Response

from coupon_service.scripts import Registration, Scripts
from coupon_service.web import fast_path
from coupon_service.web.app import create_app
from tests.state import KEYS, config_with, coupons_on

PATH = "/api/coupons/request"


def service(**config):
    client = fakeredis.FakeRedis(decode_responses=True, protocol=2)
    coupons_on(client).register(
        Registration("OPEN", 10**6), Registration("GONE", 1),
        Registration("LATER", 1, {"opensAt": 4_000_000_000_000}),
        Registration("OVER", 1, {"closesAt": 1}),
    )
    coupons_on(client).request("GONE", "winner", "r")
    coupons_on(client).request("OPEN", "holder", "mine")
    coupons_on(client).request("OPEN", "a/../b", "r 1")
    client.set(KEYS.user("OPEN", "홍/길동"), "r 1-0")
    client.set(KEYS.coupon("CORRUPT"), "x")
    return create_app(config_with(**config), client)


@pytest.fixture(scope="module")
def ways():
    """Clients of two services that have seen the same: one has the fast path, the other not."""
    fast = fast_path.put_before(service())
    assert isinstance(fast, fast_path.FastPath)
    return Client(fast), Client(service())


def shown(response):
    """All that a client sees, but for random ids and the time that is left."""
    body = re.sub(r'("requestId":)"[\w.]{12}"', r"\1", response.get_data(as_text=True))
    body = re.sub(r'("pollAfterMs":)\d+', r"\1", body)
    headers = dict(response.headers)
    headers["X-Request-ID"] = re.sub(r"[\w-]{16}", "made", headers["X-Request-ID"])
    if response.status_code == 409:
        headers["Retry-After"] = bool(headers.get("Retry-After"))
    return response.status, headers, body


users = st.sampled_from(["holder", "winner", "..", "a/../b"]) | st.text(min_size=0, max_size=130)
bodies = st.fixed_dictionaries(
    {}, optional={
        "couponId": st.sampled_from(
            ["OPEN", "GONE", "LATER", "OVER", "NONE", "CORRUPT", "not valid", "..", 5]
        ),
        "userId": users, "more": st.none(),
    },
).map(json.dumps) | st.text(max_size=30)
headers = st.fixed_dictionaries(
    {}, optional={
        "Content-Type": st.sampled_from(
            ["application/json", "application/json; charset=utf-8", "text/plain", ""]
        ),
        "Idempotency-Key": st.sampled_from(["mine", "other", "not valid", "", "k" * 65]),
        "X-Request-ID": st.sampled_from(["given", "not usable"]),
        "Origin": st.just("https://shop.example"),
        "X-Forwarded-Prefix": st.just("/app"),
    },
)


@settings(max_examples=300, deadline=None)
@given(body=bodies, headers=headers, method=st.sampled_from(["POST", "POST", "GET", "PUT"]))
def test_both_ways_give_the_same_answer(ways, body, headers, method):
    headers = {"Content-Type": "application/json", **headers}
    fast, slow = (
        way.open(PATH, method=method, data=body.encode("utf-8", "surrogatepass"), headers=headers)
        for way in ways
    )
    assert shown(fast) == shown(slow)


paths = st.builds(
    "/api/coupons/{}{}/users/{}".format,
    st.sampled_from(["OPEN", "GONE", "NONE", "CORRUPT", "request", "..", "a b", "%00", ""]),
    st.sampled_from([""] * 5 + ["/", "/x"]),
    users.map(quote) | st.sampled_from(
        ["%ED%99%8D/%EA%B8%B8%EB%8F%99", "%ff", "%ed%a0%80", "%0a", "a%2f..", "u//v", "/holder"]
    ),
)


@settings(max_examples=300, deadline=None)
@given(
    path=paths, query=st.sampled_from(["", "", "requestId=mine"]), headers=headers,
    method=st.sampled_from(["GET", "GET", "HEAD", "POST", "OPTIONS"]),
)
def test_both_ways_give_the_same_answer_to_a_poll(ways, path, query, headers, method):
    fast, slow = (
        way.open(path, method=method, query_string=query, headers=headers) for way in ways
    )
    assert shown(fast) == shown(slow)


@pytest.mark.parametrize("path, options, fast", [
    ("OPEN/users/holder", {}, True),
    ("NONE/users/%ED%99%8D/%EA%B8%B8", {}, True),
    ("OPEN/users/holder", {"method": "HEAD"}, False),
    ("OPEN/users/holder?a", {}, False),
    ("OPEN/users/holder", {"headers": {"X-Forwarded-Prefix": "/app"}}, False),
    ("OPEN", {}, False),
])
def test_only_the_ordinary_poll_takes_the_fast_path(path, options, fast):
    application = fast_path.put_before(service())
    application._next = Response("not this way", 418)
    answer = Client(application).open(f"/api/coupons/{path}", **options)
    assert (answer.status_code != 418) == fast


@pytest.mark.parametrize("user", [b"\xff", b"\xed\xa0\x80", "홍/길동".encode(), b"a\x00"])
def test_both_ways_read_the_bytes_of_a_path_alike(ways, user):
    def answer(way):
        environ = EnvironBuilder("/").get_environ()
        environ["PATH_INFO"] = f"/api/coupons/OPEN/users/{user.decode('latin-1')}"
        return shown(Response(*run_wsgi_app(way.application, environ)))

    fast, slow = map(answer, ways)
    assert fast == slow


@pytest.mark.parametrize("declared", ["5", "500", "16385", "-1", "+30", "x", ""])
def test_both_ways_judge_the_declared_length_alike(ways, declared):
    body = b'{"couponId":"OPEN","userId":"u"}'

    def answer(way):
        environ = EnvironBuilder(PATH, method="POST", content_type="application/json").get_environ()
        environ.update({"CONTENT_LENGTH": declared, "wsgi.input": io.BytesIO(body)})
        return shown(Response(*run_wsgi_app(way.application, environ)))

    fast, slow = map(answer, ways)
    assert fast == slow
    assert fast[0].startswith(("400", "413"))


@pytest.mark.parametrize(
    "body, headers, fast",
    [
        ('{"couponId": "GONE", "userId": "u"}', {}, True),
        ('{"couponId": "OPEN", "userId": "u"}', {"Idempotency-Key": "k"}, True),
        ('{"couponId": "OPEN"}', {}, False),
        ("{", {}, False),
        ('{"couponId": "OPEN", "userId": "u"}', {"Content-Type": "text/plain"}, False),
        ('{"couponId": "OPEN", "userId": "u"}', {"X-Forwarded-Prefix": "/app"}, False),
    ],
)
def test_only_the_ordinary_takes_the_fast_path(body, headers, fast):
    application = fast_path.put_before(service())
    application._next = Response("not this way", 418)
    headers = {"Content-Type": "application/json", **headers}
    answer = Client(application).post(PATH, data=body, headers=headers)
    assert (answer.status_code != 418) == fast


def test_proxies_in_front_leave_the_fast_path_where_it_is():
    assert isinstance(fast_path.put_before(service(proxies=1)), fast_path.FastPath)


def hook(app):
    app.before_request(lambda: None)


def hook_of_the_blueprint(app):
    app.after_request_funcs["api"] = [lambda response: response]


def teardown(app):
    app.teardown_appcontext(lambda error: None)


def extension(app):
    app.extensions["limiter"] = object()


def middleware(app):
    inner = app.wsgi_app
    app.wsgi_app = lambda environ, start_response: inner(environ, start_response)


@pytest.mark.parametrize(
    "register", [hook, hook_of_the_blueprint, teardown, extension, middleware],
    ids=lambda register: register.__name__,
)
def test_it_steps_aside_for_whatever_wants_to_see_each_request(register):
    app = service()
    register(app)
    assert fast_path.put_before(app) is app


def test_it_steps_aside_for_receivers_of_signals_and_for_cors():
    def receiver(sender, **_):
        pass

    app = service()
    with request_started.connected_to(receiver):
        assert fast_path.put_before(app) is app
    assert isinstance(fast_path.put_before(app), fast_path.FastPath)
    app = service(cors_origins=["https://shop.example"])
    assert fast_path.put_before(app) is app


def test_application_of_the_factory_is_flask_alone():
    assert service().wsgi_app.__func__.__qualname__ == "Flask.wsgi_app"


@pytest.mark.parametrize("error, code", [
    (NoPermissionError("NOPERM"), "misconfigured"), (RuntimeError(), "internal_server_error"),
])
def test_failure_after_admission_does_not_admit_twice(monkeypatch, error, code):
    admitted = []

    def call(scripts, name, requests, *_):
        admitted.extend(requests)
        raise error

    application = Client(fast_path.put_before(service()))
    monkeypatch.setattr(Scripts, "call_by_coupon", call)
    answer = application.post(PATH, json={"couponId": "OPEN", "userId": "u"})
    assert (answer.status_code, answer.json["code"]) == (500, code)
    assert answer.mimetype == "application/problem+json"
    assert len(admitted) == 1


def test_lean_flask_does_for_other_views_what_flask_does():
    app = service()
    app.add_url_rule("/slash/", "slash", lambda: "")
    app.add_url_rule("/nothing", "nothing", lambda: ("", 204))
    app.add_url_rule("/form", "form", methods=["POST"],
                     view_func=lambda: request.form["a"] + request.get_data(as_text=True))
    app.add_url_rule("/away", "away", lambda: redirect("/쿠폰"))
    http = app.test_client()
    redirected = http.get("/slash", base_url="https://shop.example")
    assert redirected.headers["Location"] == "https://shop.example/slash/"
    assert "Content-Length" not in http.get("/nothing").headers
    assert http.post("/form", data={"a": "b"}).text == "b"
    assert http.get("/away").headers["Location"] == "/%EC%BF%A0%ED%8F%B0"
