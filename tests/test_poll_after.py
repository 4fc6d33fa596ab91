"""When to ask again, from the recent time to decision."""

import pytest

from coupon_service.poll_after import LONGEST_MS, SHORTEST_MS, PollAfter
from coupon_service.scripts import Registration
from tests.state import KEYS, config_with, coupons_on, drain, worker_on
from coupon_service.web.app import create_app


def test_first_poll_is_early_until_one_finds_its_request_pending():
    poll_after = PollAfter()
    assert poll_after.ms == SHORTEST_MS
    assert poll_after.pending(200) == 200
    assert poll_after.ms == 200
    assert poll_after.pending(120) == 120  # a shorter wait says nothing of the longer one
    assert poll_after.ms == 200


def test_requests_that_are_decided_in_time_bring_the_polls_forward():
    poll_after = PollAfter()
    poll_after.pending(10**7)
    assert poll_after.ms == LONGEST_MS
    seen = []
    for _ in range(40):
        poll_after.issued(30)
        seen.append(poll_after.ms)
    assert seen == sorted(seen, reverse=True) and seen[-1] == SHORTEST_MS


def test_issuance_of_long_ago_says_nothing():
    poll_after = PollAfter()
    poll_after.pending(500)
    poll_after.issued(60_000)
    assert poll_after.ms == 500


@pytest.mark.parametrize("age", [-5_000, 0, 49])
def test_clock_that_was_set_back_is_no_reason_to_hurry(age):
    assert PollAfter().pending(age) == SHORTEST_MS


def test_accepted_answer_and_poll_say_when_to_ask_again(fake_client):
    http = create_app(config_with(), fake_client).test_client()
    coupons_on(fake_client).register(Registration("A", 9))

    def request(user):
        body = {"couponId": "A", "userId": user}
        return http.post("/api/coupons/request", json=body).json["pollAfterMs"]

    assert request("u") == SHORTEST_MS
    [(entry_id, _)] = fake_client.xrange(KEYS.requests)
    mark = fake_client.hget(KEYS.pending("A"), "u")
    older = int(entry_id.partition("-")[0]) - 5_000
    fake_client.hset(KEYS.pending("A"), "u", f"{mark.partition(' ')[0]} {older}-0")
    poll = http.get("/api/coupons/A/users/u")
    assert (poll.json["pollAfterMs"], poll.headers["Retry-After"]) == (LONGEST_MS, "1")
    assert request("v") == LONGEST_MS
    drain(fake_client, worker_on(fake_client))
    assert "pollAfterMs" not in http.get("/api/coupons/A/users/v").json
    assert request("w") < LONGEST_MS
