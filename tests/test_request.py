import pytest

from coupon_service.web.app import create_app
from coupon_service.errors import Duplicate, SoldOut, UnknownCoupon
from coupon_service.scripts import Registration
from tests.state import KEYS, assert_consistent, config_with, drain, everything


def ask(http, user, coupon="A", **headers):
    return http.post(
        "/api/coupons/request", json={"couponId": coupon, "userId": user}, headers=headers
    )


def test_accepted_request_is_200_and_says_where_its_status_is(http, coupons):
    coupons.register(Registration("A", 1))
    answer = ask(http, "user 1/2")
    assert answer.status_code == 200
    assert answer.json["requestId"]
    assert answer.json["status"] == "pending"
    assert answer.headers["Location"] == "/api/coupons/A/users/user%201/2"
    assert http.get(answer.headers["Location"]).json["status"] == "pending"


def test_accepted_request_is_on_the_stream_of_the_original(client, coupons):
    coupons.register(Registration("A", 1))
    coupons.request("A", "u", "r")
    [(_, fields)] = client.xrange(f"{KEYS.prefix}coupon-requests")
    assert fields == {"couponId": "A", "userId": "u", "requestId": "r"}
    assert client.get(f"{KEYS.prefix}coupon:A:requested") == "1"


def test_sold_out_is_400_and_takes_no_place(http, client, coupons):
    coupons.register(Registration("A", 1))
    ask(http, "u1")
    for _ in range(3):
        answer = ask(http, "u2")
        assert (answer.status_code, answer.json["code"]) == (400, "sold_out")
    assert client.get(KEYS.requested("A")) == "1"
    assert client.xlen(KEYS.requests) == 1


def test_places_are_compared_with_the_quantity_and_not_with_the_falling_stock(
    client, coupons, worker
):
    coupons.register(Registration("A", 10))
    for number in range(10):
        coupons.request("A", f"u{number}", "r")
        drain(client, worker)
    assert client.get(KEYS.stock("A")) == "0"
    assert_consistent(client, "A")


@pytest.mark.parametrize("decided", [False, True], ids=["pending", "issued"])
def test_second_request_of_a_user_is_409_and_takes_no_place(http, client, coupons, worker, decided):
    coupons.register(Registration("A", 5))
    first = ask(http, "u").json["requestId"]
    if decided:
        drain(client, worker)
    before = everything(client)
    answer = ask(http, "u")
    assert (answer.status_code, answer.json["code"]) == (409, "duplicate")
    assert answer.json["requestStatus"] == ("issued" if decided else "pending")
    assert answer.json["requestId"] == first
    after = everything(client)
    assert after[KEYS.coupon("A")].pop("duplicate") == "1"
    assert after == before


def test_user_with_a_place_is_told_so_even_when_sold_out(coupons):
    coupons.register(Registration("A", 1))
    coupons.request("A", "u", "r1")
    with pytest.raises(Duplicate):
        coupons.request("A", "u", "r2")


@pytest.mark.parametrize("decided", [False, True], ids=["pending", "issued"])
def test_same_request_id_gets_the_same_answer_and_changes_nothing(
    http, client, coupons, worker, decided
):
    coupons.register(Registration("A", 5))
    first = ask(http, "u", **{"Idempotency-Key": "key-1"})
    if decided:
        drain(client, worker)
    before = everything(client)
    again = ask(http, "u", **{"Idempotency-Key": "key-1"})
    assert (again.status_code, again.json) == (first.status_code, first.json)
    assert again.json["requestId"] == "key-1"
    assert everything(client) == before


def test_one_request_id_of_two_users_is_two_requests(client, coupons):
    coupons.register(Registration("A", 5))
    coupons.request("A", "u1", "same")
    coupons.request("A", "u2", "same")
    assert client.get(KEYS.requested("A")) == "2"


def test_unknown_coupon_is_404_and_leaves_nothing(http, client):
    answer = ask(http, "u")
    assert (answer.status_code, answer.json["code"]) == (404, "unknown_coupon")
    assert everything(client) == {}


def test_refusals_are_raised_by_name(coupons):
    with pytest.raises(UnknownCoupon):
        coupons.request("A", "u", "r")
    coupons.register(Registration("A", 1))
    coupons.request("A", "u", "r")
    with pytest.raises(SoldOut):
        coupons.request("A", "u2", "r")


def test_admission_costs_one_round_trip(real_client):
    http = create_app(config_with(), real_client).test_client()
    http.post("/api/coupons/register", json={"couponId": "A", "quantity": 9})
    ask(http, "warm-up")
    before = real_client.info("commandstats")
    ask(http, "u")
    after = real_client.info("commandstats")
    calls = {
        name.removeprefix("cmdstat_"): stat["calls"] - before.get(name, {"calls": 0})["calls"]
        for name, stat in after.items()
    }
    # What runs inside the script is counted too; only EVALSHA came over the connection.
    assert calls["evalsha"] == 1
    inside = {"hmget", "mget", "get", "xadd", "incrby", "hset", "info"}
    assert {name for name, count in calls.items() if count} == inside | {"evalsha"}
