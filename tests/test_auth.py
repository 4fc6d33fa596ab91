"""Who may administer. What is refused never reaches Redis: one server will do."""

import base64

import pytest

from coupon_service.scripts import Registration
from coupon_service.web.app import create_app
from tests.state import config_with, coupons_on, everything

REGISTER = ("POST", "/api/coupons/register", {"couponId": "A", "quantity": 1})
ADMIN = [
    ("GET", "/api/coupons", None),
    ("POST", "/api/coupons/A/close", None),
    ("GET", "/api/coupons/A/statistics", None),
    ("DELETE", "/api/coupons/A", None),
    ("DELETE", "/api/coupons/A/users/u", None),
    ("GET", "/api/coupons/A/issuances", None),
    ("GET", "/api/coupons/A/issuances?format=csv", None),
    ("GET", "/api/users/u/coupons", None),
    ("GET", "/admin", None),
    ("GET", "/api/dashboard", None),
    ("GET", "/api/dashboard/coupons/A", None),
    ("GET", "/api/dashboard/system", None),
    ("GET", "/api/dead-letters", None),
    ("POST", "/api/dead-letters/0:1-1/retry", None),
    ("DELETE", "/api/dead-letters/0:1-1", None),
]


def basic(password, user="admin"):
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()


@pytest.mark.parametrize("headers, refused", [
    ({"Sec-Fetch-Site": "cross-site"}, True),
    ({"Sec-Fetch-Site": "same-site"}, True),
    ({"Origin": "http://evil.example"}, True),
    ({"Origin": "null"}, True),
    ({"Sec-Fetch-Site": "same-origin", "Origin": "http://localhost"}, False),
    ({"Origin": "http://localhost"}, False),
    ({}, False),
    ({"Sec-Fetch-Site": "cross-site", "Authorization": "Bearer secret"}, False),
])
@pytest.mark.parametrize("method, path, body", [
    ("POST", "/api/coupons/register", {"couponId": "A", "quantity": 6}),
    ("POST", "/api/coupons/A/close", None),
    ("DELETE", "/api/coupons/A", None),
])
def test_page_of_another_origin_changes_nothing_with_a_kept_password(
    fake_client, method, path, body, headers, refused
):
    coupons_on(fake_client).register(Registration("A", 5))
    before = everything(fake_client)
    answer = http_with(fake_client, "secret").open(
        path, method=method, json=body, headers={"Authorization": basic("secret"), **headers}
    )
    if refused:
        assert (answer.status_code, answer.json["code"]) == (403, "cross_site")
        assert everything(fake_client) == before
    else:
        assert answer.status_code == 200
        assert everything(fake_client) != before


def http_with(client, token):
    return create_app(config_with(admin_token=token), client).test_client()


def assert_refused(client, endpoint, given):
    method, path, body = endpoint
    headers = {"Authorization": given} if given else {}
    answer = http_with(client, "secret").open(path, method=method, json=body, headers=headers)
    assert (answer.status_code, answer.json["code"]) == (401, "unauthorized")
    assert 'Bearer realm="admin"' in answer.headers["WWW-Authenticate"]
    assert everything(client) == {}


@pytest.mark.parametrize("endpoint", [REGISTER, *ADMIN])
def test_every_endpoint_of_administrators_needs_the_token(fake_client, endpoint):
    method, path, body = endpoint
    assert_refused(fake_client, endpoint, "Bearer wrong")
    answer = http_with(fake_client, "secret").open(
        path, method=method, json=body, headers={"Authorization": "Bearer secret"}
    )
    assert answer.status_code in (200, 404)


@pytest.mark.parametrize(
    "given",
    [None, "Bearer", "Bearer wrong", "Bearer secret2", "Bearer secre", "Bearer ", "secret",
     basic("wrong"), basic(""), "Basic !!!", "Digest secret", "Bearer sécret", basic("sécret")],
)
def test_anything_but_the_token_is_refused(fake_client, given):
    assert_refused(fake_client, REGISTER, given)


@pytest.mark.parametrize("token", ["a=b", "=a", "a==b=", "a=", 'a="b", c=d'])
def test_token_may_have_equal_signs_anywhere(fake_client, token):
    method, path, body = REGISTER
    for given in (f"Bearer {token}", f"bearer  {token} ", basic(token)):
        answer = http_with(fake_client, token).open(
            path, method=method, json=body, headers={"Authorization": given}
        )
        assert answer.status_code == 200, given


@pytest.mark.parametrize("given", ["Bearer secret", basic("secret"), basic("secret", user="")])
def test_token_is_a_bearer_token_or_the_password_of_basic(fake_client, given):
    method, path, body = REGISTER
    http = http_with(fake_client, "secret")
    answer = http.open(path, method=method, json=body, headers={"Authorization": given})
    assert answer.status_code == 200


@pytest.mark.parametrize("method, path, body", ADMIN)
def test_without_a_token_set_administration_is_403(fake_client, method, path, body):
    answer = http_with(fake_client, "").open(
        path, method=method, headers={"Authorization": "Bearer "}
    )
    assert (answer.status_code, answer.json["code"]) == (403, "admin_disabled")


def test_without_a_token_set_registering_is_open_as_it_was(fake_client):
    method, path, body = REGISTER
    assert http_with(fake_client, "").open(path, method=method, json=body).status_code == 200


def test_every_route_is_either_public_or_in_this_file(fake_client):
    """A new endpoint of administrators cannot be forgotten here."""
    rules = create_app(config_with(), fake_client).url_map.iter_rules()
    routes = {(method, rule.rule) for rule in rules for method in rule.methods}
    public = {
        ("POST", "/api/coupons/register"), ("POST", "/api/coupons/request"),
        ("GET", "/api/coupons/<coupon_id:coupon_id>"),
        ("GET", "/api/coupons/<coupon_id:coupon_id>/users/<user_id:user_id>"),
        ("GET", "/"), ("GET", "/admin/static/<path:filename>"),
        ("GET", "/static/<path:filename>"), ("GET", "/healthz"), ("GET", "/readyz"),
        ("GET", "/api/openapi.json"), ("GET", "/api/docs"), ("GET", "/api/docs/start.js"),
        ("GET", "/api/docs/<any('swagger-ui.css', 'swagger-ui-bundle.js'):name>"),
        ("GET", "/metrics"),  # tests/test_metrics.py
    }
    administrative = {
        (method, path.partition("?")[0].replace("/A", "/<coupon_id:coupon_id>")
         .replace("/u/", "/<user_id:user_id>/").replace("users/u", "users/<user_id:user_id>")
         .replace("0:1-1", "<dead_letter:name>"))
        for method, path, _ in ADMIN
    }
    assert {route for route in routes if route[0] not in ("HEAD", "OPTIONS")} == (
        public | administrative
    )


def test_comparison_takes_constant_time(fake_client, monkeypatch):
    """A wrong token is compared by hmac.compare_digest, over its whole length."""
    compared = []
    monkeypatch.setattr(
        "coupon_service.web.auth.hmac.compare_digest",
        lambda a, b: compared.append((a, b)) or a == b,
    )
    http = http_with(fake_client, "secret")
    for given in ("Bearer wrong", "Bearer secret"):
        http.get("/api/coupons", headers={"Authorization": given})
    assert compared == [(b"wrong", b"secret"), (b"secret", b"secret")]
