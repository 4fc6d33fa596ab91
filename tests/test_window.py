"""When a coupon can be requested, when it expires, and when it is due to be removed."""

import time
from datetime import UTC, datetime, timedelta

import pytest

from coupon_service.config import Config
from coupon_service.errors import Closed, InvalidWindow, NotOpen
from coupon_service.scripts import Registration
from tests.state import KEYS, coupons_on, drain, everything

NOW = int(time.time() * 1000)
HOUR, DAY = 3_600_000, 86_400_000
RETENTION = int(Config.retention * 1000)


def text(ms):
    return datetime.fromtimestamp(ms / 1000, UTC).isoformat()


def register(http, **fields):
    return http.post("/api/coupons/register", json={"couponId": "A", "quantity": 5, **fields})


def ask(http, user):
    return http.post("/api/coupons/request", json={"couponId": "A", "userId": user})


def test_before_it_opens_a_request_is_409_and_says_when_to_come_back(http, client):
    opens_at = datetime.now(UTC) + timedelta(hours=1)
    register(http, opensAt=opens_at.isoformat())
    answer = ask(http, "u")
    assert (answer.status_code, answer.json["code"]) == (409, "not_open")
    told = datetime.fromisoformat(answer.json["opensAt"])
    assert abs(told - opens_at) < timedelta(milliseconds=1)
    assert 3590 < int(answer.headers["Retry-After"]) <= 3600
    assert client.get(KEYS.requested("A")) == "0"
    assert http.get("/api/coupons/A").json["state"] == "scheduled"


@pytest.mark.parametrize("field", ["closesAt", "expiresAt"])
def test_after_it_closes_a_request_is_409(http, client, field):
    register(http, **{field: text(NOW - HOUR)})
    answer = ask(http, "u")
    assert (answer.status_code, answer.json["code"]) == (409, "closed")
    assert client.get(KEYS.requested("A")) == "0"
    state = "closed" if field == "closesAt" else "expired"
    assert http.get("/api/coupons/A").json["state"] == state


def test_between_them_it_is_open_until_it_is_sold_out(http):
    register(http, quantity=1, opensAt=text(NOW - HOUR), closesAt=text(NOW + HOUR))
    assert http.get("/api/coupons/A").json["state"] == "open"
    assert ask(http, "u").status_code == 200
    assert http.get("/api/coupons/A").json["state"] == "sold_out"


def test_refusals_are_counted_by_reason(http):
    register(http, opensAt=text(NOW + HOUR))
    ask(http, "u")
    register(http, opensAt=None, closesAt=text(NOW - HOUR))
    ask(http, "u")
    refusals = http.get("/api/coupons/A").json["refusals"]
    assert refusals == {"not_open": 1, "closed": 1, "sold_out": 0, "duplicate": 0}


def test_who_has_a_place_keeps_it_when_the_coupon_closes(http, client, coupons, worker):
    register(http)
    coupons.request("A", "u", "r")
    register(http, closesAt=text(NOW - HOUR))
    assert coupons.request("A", "u", "r")["status"] == "pending"
    assert ask(http, "u").json["code"] == "duplicate"
    drain(client, worker)
    assert coupons.user("A", "u")["status"] == "issued"


def test_issued_coupon_is_expired_from_its_instant_on(http, client, coupons, worker):
    register(http, expiresAt=text(NOW + HOUR))
    coupons.request("A", "u", "r")
    drain(client, worker)
    assert coupons.user("A", "u")["status"] == "issued"
    register(http, expiresAt=text(NOW - HOUR))
    assert coupons.user("A", "u")["status"] == "expired"


@pytest.mark.parametrize(
    "window",
    [
        {"opensAt": 2, "closesAt": 1}, {"opensAt": 1, "closesAt": 1},
        {"closesAt": 2, "expiresAt": 1}, {"opensAt": 1, "expiresAt": 1},
        {"opensAt": 2, "closesAt": 3, "expiresAt": 1},
    ],
)
def test_window_out_of_order_is_422_and_changes_nothing(http, client, coupons, window):
    before = everything(client)
    answer = register(http, **{name: text(NOW + hours * HOUR) for name, hours in window.items()})
    assert (answer.status_code, answer.json["code"]) == (422, "invalid_window")
    assert everything(client) == before


def test_order_is_checked_against_what_stays_as_it_is(coupons):
    coupons.register(Registration("A", 1, {"opensAt": NOW, "closesAt": NOW + HOUR}))
    with pytest.raises(InvalidWindow):
        coupons.register(Registration("A", 1, {"opensAt": NOW + HOUR}))
    coupons.register(Registration("A", 1, {"opensAt": NOW + HOUR, "closesAt": None}))


def test_closing_and_expiring_at_one_instant_is_in_order(coupons):
    coupons.register(Registration("A", 1, {"closesAt": NOW, "expiresAt": NOW}))


def test_part_of_the_window_that_is_not_given_stays_and_null_takes_it_away(http):
    register(http, opensAt=text(NOW - HOUR), closesAt=text(NOW + HOUR), expiresAt=text(NOW + DAY))
    register(http, quantity=9, closesAt=None)
    numbers = http.get("/api/coupons/A").json
    assert numbers["quantity"] == 9
    assert numbers["closesAt"] is None
    assert datetime.fromisoformat(numbers["opensAt"]).timestamp() * 1000 == NOW - HOUR
    assert datetime.fromisoformat(numbers["expiresAt"]).timestamp() * 1000 == NOW + DAY


def test_same_window_again_changes_nothing(http, client):
    window = {"opensAt": text(NOW), "closesAt": text(NOW + HOUR), "expiresAt": text(NOW + DAY)}
    register(http, **window)
    before = everything(client)
    register(http, **window)
    assert everything(client) == before


@pytest.mark.parametrize(
    "value", ["2026-01-01T00:00:00", "tomorrow", 5, "", "1969-01-01T00:00:00Z"]
)
def test_instant_without_offset_or_sense_is_422(http, client, value):
    answer = register(http, opensAt=value)
    assert (answer.status_code, answer.json["code"]) == (422, "invalid_request")
    assert everything(client) == {}


def test_offsets_are_understood(http):
    register(http, opensAt="2030-01-01T09:00:00+09:00")
    assert http.get("/api/coupons/A").json["opensAt"] == "2030-01-01T00:00:00.000Z"


def due_at(client):
    return dict(client.zrange(KEYS.removals, 0, -1, withscores=True))


def test_coupon_is_due_to_be_removed_a_retention_after_its_expiry(client, coupons):
    coupons.register(Registration("A", 5, {"expiresAt": NOW + DAY}), Registration("B", 5))
    assert due_at(client) == {"A": NOW + DAY + RETENTION}


@pytest.mark.parametrize(
    "later", [NOW + HOUR, NOW + 9 * DAY, None], ids=["later", "much later", "never"]
)
def test_change_of_the_expiry_moves_the_removal(client, coupons, later):
    coupons.register(Registration("A", 5, {"expiresAt": NOW + DAY}))
    coupons.register(Registration("A", 5, {"expiresAt": later}))
    assert due_at(client) == ({"A": later + RETENTION} if later else {})


def test_removal_stays_as_it_was_registered(client, coupons):
    """A top-up, and another retention in the settings, do not move it."""
    coupons.register(Registration("A", 5, {"expiresAt": NOW + DAY}))
    coupons_on(client, retention=60).register(Registration("A", 50))
    assert due_at(client) == {"A": NOW + DAY + RETENTION}


def test_no_key_has_a_ttl(client, coupons, worker):
    coupons.register(Registration("A", 5, {"expiresAt": NOW + DAY}))
    coupons.request("A", "issued", "r")
    drain(client, worker)
    coupons.request("A", "pending", "r")
    keys = list(client.scan_iter())
    assert KEYS.user("A", "issued") in keys and KEYS.pending("A") in keys
    assert {client.pttl(key) for key in keys} == {-1}


@pytest.mark.parametrize("registered", [False, True])
def test_expiry_whose_retention_is_over_is_refused(http, client, coupons, worker, registered):
    """It would remove a running campaign at once."""
    if registered:
        coupons.register(Registration("A", 5))
        coupons.request("A", "u", "r")
        drain(client, worker)
    before = everything(client)
    answer = register(http, expiresAt=text(NOW - RETENTION))
    assert (answer.status_code, answer.json["code"]) == (422, "invalid_window")
    assert everything(client) == before
    assert register(http, expiresAt=text(NOW - RETENTION + HOUR)).status_code == 200


def test_refusals_are_raised_by_name(coupons):
    coupons.register(Registration("A", 1, {"opensAt": NOW + HOUR}))
    with pytest.raises(NotOpen):
        coupons.request("A", "u", "r")
    coupons.register(Registration("A", 1, {"opensAt": None, "closesAt": NOW - HOUR}))
    with pytest.raises(Closed):
        coupons.request("A", "u", "r")
