"""What this service continues, taken by the word: INCR, GET, XADD, three round trips.

It counts requests against the *remaining* stock, as it is written there, so it issues too few
coupons while its worker keeps up; the README says why.
"""

from flask import Flask, jsonify, request

from bench.literal_worker import client

app = Flask(__name__)
redis = client()


@app.post("/api/coupons/request")
def request_coupon():  # type: ignore[no-untyped-def]
    body = request.get_json()
    coupon_id, user_id = body["couponId"], body["userId"]
    requested = redis.incr(f"coupon:{coupon_id}:requested")
    if requested > int(redis.get(f"coupon:{coupon_id}:stock") or 0):
        return jsonify(message="sold out"), 400
    redis.xadd("coupon-requests", {"couponId": coupon_id, "userId": user_id})
    return jsonify(message="request accepted")
