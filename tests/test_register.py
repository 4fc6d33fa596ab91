import pytest
from coupon_service.errors import CorruptData

from coupon_service.coupons import Coupons
from coupon_service.errors import QuantityTooLow, UnknownCoupon
from coupon_service.scripts import Registration
from tests.state import KEYS, assert_consistent, drain, everything


def test_register_answers_200_with_the_numbers(http):
    answer = http.post("/api/coupons/register", json={"couponId": "SPRING2025", "quantity": 1000})
    assert answer.status_code == 200
    assert answer.json == {
        "message": "coupon registered",
        "couponId": "SPRING2025",
        "quantity": 1000,
        "stock": 1000,
        "requested": 0,
    }


def test_register_stores_the_stock_under_the_key_of_the_original(client, coupons):
    coupons.register(Registration("SPRING2025", 1000))
    prefix = KEYS.of("SPRING2025").prefix
    assert client.get(f"{prefix}coupon:SPRING2025:stock") == "1000"
    assert client.get(f"{prefix}coupon:SPRING2025:requested") == "0"
    assert client.zrange(f"{prefix}coupons", 0, -1) == ["SPRING2025"]


def test_largest_quantity_is_stored_to_the_digit(client, coupons):
    assert coupons.register(Registration("A", 10**9))[0]["stock"] == 10**9
    coupons.request("A", "u", "r")
    assert client.get(KEYS.stock("A")) == "1000000000"
    assert coupons.register(Registration("A", 10**9 - 1))[0]["stock"] == 10**9 - 1


def test_same_declaration_again_changes_nothing(client, coupons, worker):
    coupons.register(Registration("A", 3))
    coupons.request("A", "u", "r")
    drain(client, worker)
    before = everything(client)
    assert coupons.register(Registration("A", 3)) == [
        {"couponId": "A", "quantity": 3, "stock": 2, "requested": 1}
    ]
    assert everything(client) == before


def test_larger_quantity_tops_up_what_is_left(client, coupons, worker):
    coupons.register(Registration("A", 1))
    coupons.request("A", "u1", "r1")
    drain(client, worker)
    assert coupons.register(Registration("A", 3))[0]["stock"] == 2
    coupons.request("A", "u2", "r2")
    drain(client, worker)
    assert_consistent(client, "A")


def test_smaller_quantity_is_taken_down_to_the_places_taken(client, coupons, worker):
    coupons.register(Registration("A", 5))
    coupons.request("A", "u1", "r1")
    drain(client, worker)
    coupons.request("A", "u2", "r2")
    assert coupons.register(Registration("A", 2))[0]["stock"] == 1
    drain(client, worker)
    assert client.get(KEYS.stock("A")) == "0"
    assert_consistent(client, "A")


def test_quantity_below_the_places_taken_changes_nothing(client, coupons):
    coupons.register(Registration("A", 5))
    coupons.request("A", "u1", "r1")
    coupons.request("A", "u2", "r2")
    before = everything(client)
    with pytest.raises(QuantityTooLow) as refusal:
        coupons.register(Registration("A", 1))
    assert refusal.value.details == {"couponId": "A", "quantity": 5, "requested": 2}
    assert everything(client) == before


@pytest.mark.parametrize("lost", [KEYS.coupon("A"), KEYS.stock("A"), KEYS.requested("A")])
def test_coupon_that_has_lost_a_key_is_not_taken_for_a_new_one(client, coupons, lost):
    coupons.register(Registration("A", 1))
    coupons.request("A", "u", "r")
    client.delete(lost)
    before = everything(client)
    with pytest.raises(CorruptData, match="data of A"):
        coupons.register(Registration("A", 1))
    assert everything(client) == before


def test_quantity_too_low_is_409(http):
    for user in ("u1", "u2"):
        http.post("/api/coupons/register", json={"couponId": "A", "quantity": 5})
        http.post("/api/coupons/request", json={"couponId": "A", "userId": user})
    answer = http.post("/api/coupons/register", json={"couponId": "A", "quantity": 1})
    assert (answer.status_code, answer.json["code"]) == (409, "quantity_too_low")


def test_numbers_tell_every_count(client, coupons, worker, http):
    coupons.register(Registration("A", 2))
    for user in ("u1", "u2", "u3", "u1"):
        http.post("/api/coupons/request", json={"couponId": "A", "userId": user})
    drain(client, worker)
    coupons.register(Registration("A", 3))
    coupons.request("A", "u4", "r4")
    numbers = http.get("/api/coupons/A").json
    assert numbers.pop("registeredAt").endswith("Z")
    assert numbers == {
        "couponId": "A", "state": "sold_out", "quantity": 3, "stock": 1, "requested": 3,
        "issued": 2, "pending": 1, "opensAt": None, "closesAt": None, "expiresAt": None,
        "refusals": {"sold_out": 1, "duplicate": 1, "not_open": 0, "closed": 0},
    }


def test_numbers_of_an_unknown_coupon_are_404(http, coupons: Coupons):
    answer = http.get("/api/coupons/NONE")
    assert (answer.status_code, answer.json["code"]) == (404, "unknown_coupon")
    with pytest.raises(UnknownCoupon):
        coupons.snapshot("NONE")
