"""The REST endpoints of users. Views load, call and return; what they call raises refusals."""

import secrets

from flask import Blueprint, Response, current_app, jsonify, request, url_for
from werkzeug.routing import BaseConverter

from coupon_service.auth import require_admin_if_set
from coupon_service.coupons import Coupons
from coupon_service.keys import COUPON_ID, USER_ID
from coupon_service.schemas import RequestSchema, declarations, idempotency_key

api = Blueprint("api", __name__, url_prefix="/api/coupons")

#: Seconds after which a client may look again at a request that is pending.
LOOK_AGAIN_AFTER = 1
#: Bytes of a body that registers as many coupons as are allowed.
MAX_REGISTER_BODY = 512 * 1024

_request_schema = RequestSchema()


class CouponIdConverter(BaseConverter):
    """Lets only a valid couponId match a path."""

    regex = COUPON_ID


class UserIdConverter(BaseConverter):
    """Lets any valid userId match the rest of a path, slashes included."""

    regex = USER_ID
    part_isolating = False


@api.post("/register")
def register() -> Response:
    require_admin_if_set()
    request.max_content_length = MAX_REGISTER_BODY
    body = request.get_json()
    registered = _coupons().register(*declarations(body))
    if isinstance(body, list):
        return jsonify(message="coupons registered", coupons=registered)
    return jsonify(message="coupon registered", **registered[0])


@api.post("/request")
def request_coupon() -> Response:
    body = _request_schema.load(request.get_json())
    answer = _coupons().request(**body, request_id=_request_id())
    response = jsonify(message="request accepted", **answer)
    response.headers["Location"] = url_for(".user", **body)
    return response


@api.get("/<coupon_id:coupon_id>/users/<user_id:user_id>")
def user(coupon_id: str, user_id: str) -> Response:
    answer = _coupons().user(coupon_id, user_id)
    response = jsonify(answer)
    if answer["status"] == "pending":
        response.headers["Retry-After"] = str(LOOK_AGAIN_AFTER)
    return response


@api.get("/<coupon_id:coupon_id>")
def numbers(coupon_id: str) -> Response:
    response = jsonify(_coupons().numbers(coupon_id))
    response.headers["Cache-Control"] = "public, max-age=1"
    return response


def _coupons() -> Coupons:
    coupons: Coupons = current_app.extensions["coupons"]
    return coupons


def _request_id() -> str:
    """The client's Idempotency-Key, so that a repetition is recognised, or a new id."""
    if "Idempotency-Key" not in request.headers:
        return secrets.token_urlsafe(12)
    return idempotency_key(request.headers["Idempotency-Key"])
