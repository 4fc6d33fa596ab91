"""What this service continues, taken by the word: INCR, GET, XADD, three round trips.

It counts requests against the *remaining* stock, as it is written there, so it issues too few
coupons while its worker keeps up; the README says why. It has no status poll; the one here is the
least that its data allow: the mark of the user.
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


@app.get("/api/coupons/<coupon_id>/users/<path:user_id>")
def user(coupon_id: str, user_id: str):  # type: ignore[no-untyped-def]
    status = redis.get(f"coupon:{coupon_id}:user:{user_id}")
    if status is None:
        return jsonify(message="not issued"), 404
    return jsonify(couponId=coupon_id, userId=user_id, status=status)
