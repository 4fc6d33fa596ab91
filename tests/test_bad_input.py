"""Whatever comes in: a problem+json with a stable code, and nothing changed."""

import io

import pytest

from coupon_service.scripts import Registration
from tests.state import everything

REGISTER, REQUEST = "/api/coupons/register", "/api/coupons/request"


@pytest.fixture
def post(http, client, coupons):
    """Post raw bytes to an installation with one coupon; check that nothing changes."""
    coupons.register(Registration("A", 3))

    def post(path, body, content_type="application/json", **headers):
        before = everything(client)
        answer = http.post(path, data=body, content_type=content_type, headers=headers)
        assert everything(client) == before
        assert answer.content_type == "application/problem+json"
        problem = answer.get_json()
        assert problem["status"] == answer.status_code
        assert problem["type"] == f"urn:coupon-service:problem:{problem['code']}"
        assert problem["title"] and problem["detail"]
        return answer.status_code, problem["code"]

    return post


@pytest.mark.parametrize(
    "body",
    [b"", b"{", b"quantity=1", b"[" * 2000, b'{"a":' * 3000, b"\xff\xfe", b"\x00",
     b'{"couponId":"B","quantity":NaN}', b'{"couponId":"B","quantity":-Infinity}',
     b'{"couponId":"B","couponId":"C","quantity":1}',
     b'{"couponId":"B","quantity":' + b"9" * 5000 + b"}"],
    ids=["empty", "cut", "form", "nested", "nested objects", "not utf-8", "nul", "NaN",
         "infinity", "duplicate names", "5000 digits"],
)
@pytest.mark.parametrize("path", [REGISTER, REQUEST])
def test_what_is_not_json_is_400(post, path, body):
    assert post(path, body) == (400, "malformed_json")


@pytest.mark.parametrize("content_type", [None, "text/plain", "application/x-www-form-urlencoded"])
@pytest.mark.parametrize("path", [REGISTER, REQUEST])
def test_other_content_types_are_415(post, path, content_type):
    body = b'{"couponId":"A","userId":"u"}'
    assert post(path, body, content_type) == (415, "unsupported_media_type")


@pytest.mark.parametrize("path", [REGISTER, REQUEST])
def test_large_body_is_413(post, path):
    body = b'{"couponId":"A","userId":"' + b"u" * 1_000_000 + b'"}'
    assert post(path, body) == (413, "request_entity_too_large")


def test_large_body_of_unknown_length_is_413(http, client):
    """A chunked body, as gunicorn hands it to the application."""
    body = b'{"couponId":"A","quantity":1}' + b" " * 1_000_000
    answer = http.post(
        REGISTER, input_stream=io.BytesIO(body), content_type="application/json",
        environ_overrides={"wsgi.input_terminated": True},
    )
    assert (answer.status_code, answer.json["code"]) == (413, "request_entity_too_large")
    assert everything(client) == {}


@pytest.mark.parametrize(
    "quantity",
    ["0", "-1", "1.5", "1.0", '"5"', "true", "null", "1e400", "1e3", "10000000000", "[1]", "{}"],
)
def test_bad_quantity_is_422(post, quantity):
    body = b'{"couponId":"B","quantity":%s}' % quantity.encode()
    assert post(REGISTER, body) == (422, "invalid_request")


BAD_COUPON_IDS = ['""', f'"{"c" * 65}"', '"a:b"', '"a{b"', '"a b"', '"a\\n"', '"\\n"', "null", "5",
                  '"쿠폰"', '"."', '".."', '"request"', '"register"']


@pytest.mark.parametrize("coupon_id", BAD_COUPON_IDS)
def test_bad_coupon_id_is_422(post, coupon_id):
    register = '{"couponId":%s,"quantity":1}' % coupon_id
    assert post(REGISTER, register.encode()) == (422, "invalid_request")
    request = '{"couponId":%s,"userId":"u"}' % coupon_id
    assert post(REQUEST, request.encode()) == (422, "invalid_request")


@pytest.mark.parametrize(
    "user_id",
    ['""', f'"{"u" * 129}"', '"a\\u0000"', '"a\\n"', '"\\ud800"', '"\\u007f"', "null", "7", "[]",
     '"."', '".."', '"../../A"', '"a/../b"', '"a/."', '"..\\\\A"', '"%2e%2E/A"'],
)
def test_bad_user_id_is_422(post, user_id):
    body = '{"couponId":"A","userId":%s}' % user_id
    assert post(REQUEST, body.encode()) == (422, "invalid_request")


@pytest.mark.parametrize(
    "path, body",
    [
        (REGISTER, b"{}"), (REGISTER, b"[]"), (REGISTER, b"null"), (REGISTER, b'"text"'),
        (REGISTER, b'{"couponId":"B"}'), (REGISTER, b'{"quantity":1}'),
        (REGISTER, b'{"couponId":"B","quantity":1,"extra":1}'),
        (REGISTER, b'{"couponId":"B","quantity":1,"\\ud800":1}'),
        (REQUEST, b'{"couponId":"A"}'), (REQUEST, b'{"userId":"u"}'),
        (REQUEST, b'{"couponId":"A","userId":"u","requestId":"r"}'),
    ],
)
def test_missing_and_unknown_fields_are_422(post, path, body):
    assert post(path, body) == (422, "invalid_request")


def test_field_errors_are_told_by_field(http):
    answer = http.post(REGISTER, json={"couponId": "a b", "colour": "red"})
    assert set(answer.json["errors"]) == {"couponId", "quantity", "colour"}


@pytest.mark.parametrize("key", ["", "a b", "k" * 65, "ключ"])
def test_bad_idempotency_key_is_422(post, key):
    body = b'{"couponId":"A","userId":"u"}'
    assert post(REQUEST, body, **{"Idempotency-Key": key}) == (422, "invalid_request")


@pytest.mark.parametrize(
    "method, path, status, code",
    [
        ("GET", "/nowhere", 404, "not_found"),
        ("GET", "/api/coupons/a:stock", 404, "not_found"),
        ("GET", f"/api/coupons/{'c' * 65}", 404, "not_found"),
        ("GET", "/api/coupons/A/users/", 404, "not_found"),
        ("GET", f"/api/coupons/A/users/{'u' * 129}", 404, "not_found"),
        ("GET", "/api/coupons/A/users/%00", 404, "not_found"),
        ("GET", "/api/coupons/A/users/a%0A", 404, "not_found"),
        ("GET", REQUEST + "/", 404, "not_found"),
        ("GET", REQUEST, 405, "method_not_allowed"),
        ("DELETE", "/api/coupons/register", 405, "method_not_allowed"),
        ("GET", "/api/coupons/A/users/..", 404, "not_found"),
        ("GET", "/api/coupons/A/users/%2E%2E/%2E%2E/A", 404, "not_found"),
        ("GET", "/api/coupons/..", 404, "not_found"),
        ("PUT", REGISTER, 405, "method_not_allowed"),
        ("PATCH", REQUEST, 405, "method_not_allowed"),
    ],
)
def test_answers_of_the_framework_are_problems_too(http, method, path, status, code):
    answer = http.open(path, method=method)
    assert (answer.status_code, answer.json["code"]) == (status, code)
    assert answer.content_type == "application/problem+json"
    assert status != 405 or "POST" in answer.headers["Allow"]


@pytest.mark.parametrize("user_id", ["...", "a..b", "a/b", "/", ".a", "..a/b..", "a//b"])
def test_ids_that_only_look_like_paths_are_users(http, client, coupons, user_id):
    coupons.register(Registration("A", 3))
    answer = http.post(REQUEST, json={"couponId": "A", "userId": user_id})
    assert answer.status_code == 200
    assert http.get(answer.headers["Location"]).json["userId"] == user_id


@pytest.mark.parametrize("coupon_id", ["...", "request1", "registered", "a.request", "Request"])
def test_ids_that_only_look_like_endpoints_are_coupons(http, coupon_id):
    http.post(REGISTER, json={"couponId": coupon_id, "quantity": 1})
    assert http.get(f"/api/coupons/{coupon_id}").json["couponId"] == coupon_id


@pytest.mark.parametrize(
    "instant", ["9999-12-31T23:59:59-12:00", "9999-12-31T23:59:59.999-00:01",
                "1969-12-31T00:00:00Z", "0001-01-01T00:00:00Z", "10000-01-01T00:00:00Z"],
)
def test_instant_that_could_not_be_shown_again_is_422(post, http, instant):
    body = b'{"couponId":"B","quantity":1,"expiresAt":"%s"}' % instant.encode()
    assert post(REGISTER, body) == (422, "invalid_request")


@pytest.mark.parametrize(
    "instant", ["2030-01-01x00:00:00Z", "2030-W01-1T00:00:00Z", "20300101T000000Z",
                "2030-01-01T00Z", "2030-01-01T00:00:00+0900", "2030-01-01T00:00:00,5Z",
                "２030-01-01T00:00:00Z"],
)
def test_instant_of_another_form_than_rfc_3339_is_422(post, instant):
    body = f'{{"couponId":"B","quantity":1,"expiresAt":"{instant}"}}'.encode()
    assert post(REGISTER, body) == (422, "invalid_request")


@pytest.mark.parametrize("instant", ["2030-01-01t00:00:00z", "2030-01-01 09:00:00.000+09:00"])
def test_instant_may_have_small_letters_and_a_blank(http, instant):
    http.post(REGISTER, json={"couponId": "B", "quantity": 1, "opensAt": instant})
    assert http.get("/api/coupons/B").json["opensAt"] == "2030-01-01T00:00:00.000Z"


@pytest.mark.parametrize("path, environ", [
    ("/", {"PATH_INFO": "/api/coupons/B/users/\xff"}), ("/api/coupons/B/users/%ff", {}),
], ids=["gunicorn", "flask run"])
def test_path_that_is_no_utf_8_is_nobodys(http, path, environ):
    """It must not become U+FFFD, which may be somebody."""
    http.post(REGISTER, json={"couponId": "B", "quantity": 1})
    assert http.post(REQUEST, json={"couponId": "B", "userId": "\ufffd"}).status_code == 200
    for method in ("GET", "DELETE"):
        answer = http.open(path, method=method, environ_overrides=environ)
        assert (answer.status_code, answer.json["code"]) == (404, "not_found")
    assert http.get("/api/coupons/B/users/%EF%BF%BD").json["status"] == "pending"


def test_last_instant_is_shown_as_it_was_given(http):
    http.post(REGISTER, json={
        "couponId": "B", "quantity": 1, "expiresAt": "9999-12-31T23:59:59.999Z",
    })
    assert http.get("/api/coupons/B").json["expiresAt"] == "9999-12-31T23:59:59.999Z"
