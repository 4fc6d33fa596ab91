"""The short way gives the answers of Flask's, whatever is asked."""

import json
import re

import fakeredis
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from werkzeug.test import Client
from werkzeug.wrappers import Response

from coupon_service.web.app import create_app
from coupon_service.config import Config
from coupon_service.web.fast_path import FastPath
from coupon_service.scripts import Registration
from tests.state import coupons_on

PATH = "/api/coupons/request"


def service():
    client = fakeredis.FakeRedis(decode_responses=True, protocol=2)
    coupons_on(client).register(
        Registration("OPEN", 10**6), Registration("GONE", 1),
        Registration("LATER", 1, {"opensAt": 4_000_000_000_000}),
        Registration("OVER", 1, {"closesAt": 1}),
    )
    coupons_on(client).request("GONE", "winner", "r")
    coupons_on(client).request("OPEN", "holder", "mine")
    return create_app(Config(), client).wsgi_app


@pytest.fixture(scope="module")
def ways():
    """Clients of two services that have seen the same: one goes the short way where it may, the
    other never does."""
    short, long = service(), service()
    assert isinstance(long, FastPath)
    return Client(short), Client(long._next)


def shown(response):
    """All that a client sees, but for random ids and the time that is left."""
    body = re.sub(r'("requestId":)"[\w-]{16}"', r"\1", response.get_data(as_text=True))
    headers = dict(response.headers)
    if response.status_code == 409:
        headers["Retry-After"] = bool(headers.get("Retry-After"))
    return response.status, headers, body


users = st.sampled_from(["holder", "winner"]) | st.text(min_size=0, max_size=130)
bodies = st.fixed_dictionaries(
    {}, optional={
        "couponId": st.sampled_from(["OPEN", "GONE", "LATER", "OVER", "NONE", "not valid", 5]),
        "userId": users, "more": st.none(),
    },
).map(json.dumps) | st.text(max_size=30)
headers = st.fixed_dictionaries(
    {}, optional={
        "Content-Type": st.sampled_from(
            ["application/json", "application/json; charset=utf-8", "text/plain", ""]
        ),
        "Idempotency-Key": st.sampled_from(["mine", "other", "not valid", "", "k" * 65]),
        "Origin": st.just("https://shop.example"),
    },
)


@settings(max_examples=300, deadline=None)
@given(body=bodies, headers=headers, method=st.sampled_from(["POST", "POST", "GET", "PUT"]))
def test_both_ways_give_the_same_answer(ways, body, headers, method):
    headers = {"Content-Type": "application/json", **headers}
    short, long = (
        way.open(PATH, method=method, data=body.encode("utf-8", "surrogatepass"), headers=headers)
        for way in ways
    )
    assert shown(short) == shown(long)


@pytest.mark.parametrize(
    "body, headers, shorter",
    [
        ('{"couponId": "GONE", "userId": "u"}', {}, True),
        ('{"couponId": "OPEN", "userId": "u"}', {"Idempotency-Key": "k"}, True),
        ('{"couponId": "OPEN"}', {}, False),
        ("{", {}, False),
        ('{"couponId": "OPEN", "userId": "u"}', {"Content-Type": "text/plain"}, False),
    ],
)
def test_only_the_ordinary_goes_the_short_way(body, headers, shorter):
    short = service()
    short._next = Response("not this way", 418)
    headers = {"Content-Type": "application/json", **headers}
    answer = Client(short).post(PATH, data=body, headers=headers)
    assert (answer.status_code != 418) == shorter


def test_pages_of_other_origins_are_left_to_flask_cors():
    client = fakeredis.FakeRedis(decode_responses=True, protocol=2)
    coupons_on(client).register(Registration("A", 9))
    http = create_app(Config(cors_origins=["https://shop.example"]), client).test_client()
    answer = http.post(PATH, json={"couponId": "A", "userId": "u"},
                       headers={"Origin": "https://shop.example"})
    assert answer.status_code == 200
    assert answer.headers["Access-Control-Allow-Origin"] == "https://shop.example"
