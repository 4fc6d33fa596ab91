"""What browsers and proxies need."""

import sys

import pytest
from flask import request

from coupon_service.web.app import create_app
from coupon_service.errors import ConfigError
from coupon_service.scripts import Registration
from tests.state import config_with, coupons_on, drain, worker_on

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
    assert exposed == {"ETag", "Link", "Location", "Retry-After", "X-Request-ID"}
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


def page_of(http, path, after):
    """The answer to the next page, by its Link."""
    answer = http.get(path + after, headers=ADMIN)
    link = answer.headers.get("Link", "")
    assert link == "" or link.startswith("<?") and link.endswith('>; rel="next"')
    return answer.json, link.removeprefix("<").partition(">")[0]


ADMIN = {"Authorization": "Bearer secret"}


@pytest.mark.parametrize("path, name, pages", [
    ("/api/coupons", "coupons", [["A", "B"], ["C"]]),
    ("/api/coupons/A/issuances", "issuances", [["w", "v"], ["u"]]),
])
def test_pages_are_linked_and_next_is_null_at_the_end(fake_client, path, name, pages):
    http = http_with(fake_client, admin_token="secret")
    coupons_on(fake_client).register(*(Registration(coupon, 9) for coupon in "ABC"))
    for user in "uvw":
        coupons_on(fake_client).request("A", user, user)
    drain(fake_client, worker_on(fake_client))
    query = "?limit=2"
    for expected in pages:
        page, query = page_of(http, path, query)
        assert [each.get("userId", each.get("couponId")) for each in page[name]] == expected
        assert (page["next"] is None) == (query == "") == (expected is pages[-1])


def test_numbers_that_have_not_changed_are_304(fake_client):
    http = http_with(fake_client)
    http.post("/api/coupons/register", json={"couponId": "A", "quantity": 1})
    first = http.get("/api/coupons/A")
    again = http.get("/api/coupons/A", headers={"If-None-Match": first.headers["ETag"]})
    assert (again.status_code, again.data) == (304, b"")
    assert again.headers["ETag"] == first.headers["ETag"]
    assert again.headers["Cache-Control"] == "public, max-age=1"
    assert "Content-Length" not in again.headers
    http.post("/api/coupons/register", json={"couponId": "A", "quantity": 2})
    changed = http.get("/api/coupons/A", headers={"If-None-Match": first.headers["ETag"]})
    assert (changed.status_code, changed.json["quantity"]) == (200, 2)


def rules(app):
    """(path, methods) of every route, with ids of a coupon and a user that exist."""
    names = {"couponId": "A", "userId": "u"}
    for path, its in app.test_client().get("/api/openapi.json").json["paths"].items():
        if "{deadLetter}" not in path:
            yield path.format(**names), {method.upper() for method in its}


def test_head_is_get_without_its_body_and_options_names_the_methods(fake_client):
    app = create_app(config_with(admin_token="secret"), fake_client)
    coupons_on(fake_client).register(Registration("A", 9))
    coupons_on(fake_client).request("A", "u", "r")
    http = app.test_client()
    paths = [*rules(app), ("/api/coupons/A/issuances?format=csv", {"GET"})]
    assert len(paths) > 10
    for path, methods in paths:
        options = http.options(path, headers=ADMIN)
        allowed = methods | {"OPTIONS"} | ({"HEAD"} if "GET" in methods else set())
        assert (options.status_code, options.data) == (200, b""), path
        assert set(options.headers["Allow"].split(", ")) == allowed, path
        if "GET" in methods:
            head, get = http.head(path, headers=ADMIN), http.get(path, headers=ADMIN)
            assert (head.status_code, head.data) == (get.status_code, b""), path
            assert set(head.headers.keys()) == set(get.headers.keys()), path
            # Where the age of the oldest entry is, the length changes.
            if not path.startswith(("/metrics", "/readyz", "/api/dashboard")):
                assert head.headers.get("Content-Length") == get.headers.get("Content-Length"), path
