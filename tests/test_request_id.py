"""The X-Request-ID of every answer, and what the access line is told of it."""

import re

import pytest
from werkzeug.test import Client

from coupon_service.scripts import Registration
from coupon_service.web import fast_path
from coupon_service.web.app import create_app
from tests.state import config_with, coupons_on

PATH = "/api/coupons/request"
ASKED = {"couponId": "A", "userId": "u"}


@pytest.fixture(params=["fast path", "Flask"])
def http(request, fake_client):
    coupons_on(fake_client).register(Registration("A", 10))
    app = create_app(config_with(admin_token="t"), fake_client)
    return Client(fast_path.put_before(app) if request.param == "fast path" else app)


@pytest.mark.parametrize("given", ["a", "x" * 64, '!"~', "7f9c24e8-2a0c-4c1a-9a52-3a2f7d1c1f0e"])
def test_id_of_the_client_comes_back(http, given):
    answer = http.post(PATH, json=ASKED, headers={"X-Request-ID": given})
    assert answer.headers.getlist("X-Request-ID") == [given]


@pytest.mark.parametrize("given", ["", "x" * 65, "two words", "caf\xe9", "a\tb", None])
def test_id_that_is_not_usable_is_replaced(http, given):
    headers = {} if given is None else {"X-Request-ID": given}
    ids = {http.post(PATH, json=ASKED, headers=headers).headers["X-Request-ID"] for _ in range(3)}
    assert len(ids) == 3
    assert all(re.fullmatch(r"[\w-]{16}", made) for made in ids)


@pytest.mark.parametrize("method, path, body, status", [
    ("POST", PATH, ASKED, 200), ("POST", PATH, {"couponId": "B", "userId": "u"}, 404),
    ("POST", PATH, {}, 422), ("GET", "/nowhere", None, 404), ("PUT", PATH, None, 405),
    ("GET", "/api/coupons", None, 401), ("GET", "/api/coupons/A", None, 200),
    ("HEAD", "/api/coupons/A", None, 200), ("OPTIONS", "/api/coupons/A", None, 200),
])
def test_every_answer_has_one(http, method, path, body, status):
    answer = http.open(path, method=method, json=body, headers={"X-Request-ID": "mine"})
    assert (answer.status_code, answer.headers["X-Request-ID"]) == (status, "mine")


def test_request_id_of_the_answer_is_in_the_environment_for_the_access_line(http):
    seen = {}

    def server(environ, start_response):
        nonlocal seen
        seen = environ
        return application(environ, start_response)

    application, http.application = http.application, server

    def noted(method, path, **options):
        answer = http.open(path, method=method, **options)
        return answer.json.get("requestId"), seen.get("coupon.request_id")

    accepted, environ = noted("POST", PATH, json=ASKED)
    assert accepted == environ is not None
    assert noted("POST", PATH, json=ASKED) == (accepted, accepted)  # the duplicate's place
    assert noted("GET", "/api/coupons/A/users/u") == (accepted, accepted)
    assert noted("GET", "/api/coupons/A") == (None, None)


def test_pages_of_other_origins_may_send_and_read_it(fake_client):
    http = create_app(config_with(cors_origins=["https://shop.example"]), fake_client).test_client()
    answer = http.options(PATH, headers={
        "Origin": "https://shop.example", "Access-Control-Request-Method": "POST",
        "Access-Control-Request-Headers": "X-Request-ID",
    })
    assert answer.headers["Access-Control-Allow-Headers"] == "X-Request-ID"
