"""What browsers and proxies need."""

import sys

import pytest
from flask import request

from coupon_service.web.app import create_app
from tests.state import config_with
from coupon_service.errors import ConfigError

ORIGIN = "https://shop.example"


def http_with(client, **settings):
    return create_app(config_with(**settings), client).test_client()


def test_no_origin_is_allowed_by_default(fake_client):
    answer = http_with(fake_client).get("/api/coupons/A", headers={"Origin": ORIGIN})
    assert not [name for name in answer.headers.keys() if name.startswith("Access-Control")]


@pytest.mark.parametrize("path", ["/api/coupons/A", "/api/coupons/A/users/u", "/api/coupons"])
def test_configured_origin_may_read_answers_and_their_headers(fake_client, path):
    http = http_with(fake_client, cors_origins=[ORIGIN])
    answer = http.get(path, headers={"Origin": ORIGIN})
    assert answer.headers["Access-Control-Allow-Origin"] == ORIGIN
    exposed = set(answer.headers["Access-Control-Expose-Headers"].split(", "))
    assert exposed == {"Location", "Retry-After", "X-Request-ID"}
    assert "Access-Control-Allow-Credentials" not in answer.headers
    assert "Access-Control-Allow-Origin" not in http.get(
        path, headers={"Origin": "https://other.example"}
    ).headers


def test_preflight_of_a_request_is_answered(fake_client):
    answer = http_with(fake_client, cors_origins=[ORIGIN]).options(
        "/api/coupons/request",
        headers={
            "Origin": ORIGIN, "Access-Control-Request-Method": "POST",
            "Access-Control-Request-Headers": "content-type, idempotency-key",
        },
    )
    assert answer.status_code == 200
    assert answer.headers["Access-Control-Allow-Origin"] == ORIGIN
    assert answer.headers["Access-Control-Allow-Headers"] == "content-type, idempotency-key"
    assert "POST" in answer.headers["Access-Control-Allow-Methods"]


def test_star_is_never_sent_with_credentials(fake_client):
    answer = http_with(fake_client, cors_origins=["*"]).get(
        "/api/coupons/A", headers={"Origin": ORIGIN, "Cookie": "a=b"}
    )
    assert answer.headers["Access-Control-Allow-Origin"] == "*"
    assert "Access-Control-Allow-Credentials" not in answer.headers


@pytest.mark.parametrize("path", ["/api/coupons/A/users/u", "/nowhere", "/api/coupons"])
def test_answers_are_not_stored_and_say_what_they_are(fake_client, path):
    headers = http_with(fake_client).get(path).headers
    assert headers["Cache-Control"] == "no-store"
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["Referrer-Policy"] == "no-referrer"
    assert headers["Content-Security-Policy"].startswith("default-src 'none'")


def test_numbers_may_be_stored_for_a_second_but_not_their_absence(fake_client):
    http = http_with(fake_client)
    assert http.get("/api/coupons/A").headers["Cache-Control"] == "no-store"
    http.post("/api/coupons/register", json={"couponId": "A", "quantity": 1})
    assert http.get("/api/coupons/A").headers["Cache-Control"] == "public, max-age=1"


@pytest.mark.parametrize("proxies, address", [(0, "127.0.0.1"), (1, "3.3.3.3"), (2, "2.2.2.2")])
def test_only_so_many_proxies_are_believed(fake_client, proxies, address):
    app = create_app(config_with(proxies=proxies), fake_client)
    seen = []
    app.before_request(lambda: seen.append(request.remote_addr))
    app.test_client().get("/", headers={"X-Forwarded-For": "1.1.1.1, 2.2.2.2, 3.3.3.3"})
    assert seen == [address]


@pytest.mark.parametrize("path", ["/api/coupons", "/api/coupons/A", "/api/coupons/A/users/u"])
def test_preflight_of_an_administrators_call_needs_no_token(fake_client, path):
    http = http_with(fake_client, cors_origins=[ORIGIN], admin_token="secret")
    answer = http.options(path, headers={
        "Origin": ORIGIN, "Access-Control-Request-Method": "DELETE",
        "Access-Control-Request-Headers": "authorization",
    })
    assert answer.status_code == 200
    assert answer.headers["Access-Control-Allow-Origin"] == ORIGIN
    assert answer.headers["Access-Control-Allow-Headers"] == "authorization"
    assert http.delete(path, headers={"Origin": ORIGIN}).status_code in (401, 405)


@pytest.mark.parametrize("origin", [
    "https://shop-example", "https://shopXexample", "https://shop.example.evil.net",
    "https://shop.example:8443", "http://shop.example", "https://xshop.example",
])
def test_origin_is_compared_whole(fake_client, origin):
    answer = http_with(fake_client, cors_origins=[ORIGIN]).get(
        "/api/coupons/A", headers={"Origin": origin}
    )
    assert "Access-Control-Allow-Origin" not in answer.headers


@pytest.mark.parametrize("headers", [{}, {"Origin": ORIGIN}, {"Origin": "https://other.example"}])
@pytest.mark.parametrize("path", ["/api/coupons/A", "/nowhere"])
def test_cache_is_told_that_the_answer_depends_on_the_origin(fake_client, headers, path):
    answer = http_with(fake_client, cors_origins=[ORIGIN]).get(path, headers=headers)
    assert answer.headers.getlist("Vary") == ["Origin"]


def test_missing_extra_is_one_clear_line(fake_client, monkeypatch):
    monkeypatch.setitem(sys.modules, "flask_cors", None)
    with pytest.raises(ConfigError, match="COUPON_CORS_ORIGINS needs flask-cors"):
        http_with(fake_client, cors_origins=[ORIGIN])


@pytest.mark.parametrize("prefix", ["/app", "/app/"])
def test_location_under_a_prefix_has_no_double_slash(fake_client, prefix):
    http = http_with(fake_client, proxies=1)
    http.post("/api/coupons/register", json={"couponId": "A", "quantity": 1})
    answer = http.post("/api/coupons/request", json={"couponId": "A", "userId": "u"},
                       headers={"X-Forwarded-Prefix": prefix})
    assert answer.headers["Location"] == "/app/api/coupons/A/users/u"
