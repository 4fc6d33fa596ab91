from datetime import UTC, datetime, timedelta

import pytest

from coupon_service.scripts import Registration
from tests.state import KEYS, drain


def test_pending_request_says_when_to_look_again(http, coupons):
    coupons.register(Registration("A", 1))
    coupons.request("A", "u", "r")
    answer = http.get("/api/coupons/A/users/u")
    assert answer.status_code == 200
    body = answer.json
    assert 50 <= body.pop("pollAfterMs") <= 1000
    assert body == {"couponId": "A", "userId": "u", "requestId": "r", "status": "pending"}
    assert answer.headers["Retry-After"] == "1"


def test_issued_request_says_when_it_was_issued(http, client, coupons, worker):
    coupons.register(Registration("A", 1))
    coupons.request("A", "u", "r")
    drain(client, worker)
    answer = http.get("/api/coupons/A/users/u")
    body = answer.json
    age = datetime.now(UTC) - datetime.fromisoformat(body.pop("issuedAt"))
    assert timedelta() <= age < timedelta(minutes=1)
    assert body == {"couponId": "A", "userId": "u", "requestId": "r", "status": "issued"}
    assert "Retry-After" not in answer.headers


def test_mark_of_another_system_says_issued_without_a_time(http, client, coupons):
    coupons.register(Registration("A", 1))
    client.set(f"{KEYS.prefix}coupon:A:user:u", "issued")
    answer = http.get("/api/coupons/A/users/u")
    assert answer.status_code == 200
    assert answer.json["status"] == "issued" and "issuedAt" not in answer.json


def test_user_who_never_asked_is_404(http, coupons):
    coupons.register(Registration("A", 1))
    answer = http.get("/api/coupons/A/users/u")
    assert (answer.status_code, answer.json["code"]) == (404, "not_requested")


def test_unknown_coupon_is_404(http):
    answer = http.get("/api/coupons/NONE/users/u")
    assert (answer.status_code, answer.json["code"]) == (404, "unknown_coupon")


@pytest.mark.parametrize(
    "user", ["홍길동", "a/b", "/a", "a//b", "a b", "a?b#c", "a:b", "%41", "🎟" * 128]
)
def test_every_valid_user_id_has_a_status_url(http, coupons, user):
    coupons.register(Registration("A", 1))
    answer = http.post("/api/coupons/request", json={"couponId": "A", "userId": user})
    assert http.get(answer.headers["Location"]).json["userId"] == user


@pytest.mark.parametrize("mark", ["r", "r not-an-id"])
def test_pending_mark_that_names_no_entry_is_pending(client, coupons, mark):
    coupons.register(Registration("A", 1))
    client.hset(KEYS.pending("A"), "u", mark)
    answer = coupons.user("A", "u")
    assert (answer["status"], answer["pollAfterMs"]) == ("pending", 50)
