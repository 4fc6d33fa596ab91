"""The REST endpoints of users. Views load, call and return; what they call raises refusals."""

import secrets
from typing import Any
from urllib.parse import quote

from flask import Blueprint, Response, current_app, jsonify, request
from werkzeug.routing import BaseConverter

from coupon_service.coupons import Coupons
from coupon_service.keys import COUPON_ID, USER_ID
from coupon_service.web.auth import require_admin_if_set
from coupon_service.web.schemas import RequestSchema, idempotency_key, registrations

api = Blueprint("api", __name__, url_prefix="/api/coupons")

REQUEST_PATH = f"{api.url_prefix}/request"
#: Seconds after which a client may poll a pending request again.
POLL_AFTER = 1
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
    registered = _coupons().register(*registrations(body))
    if isinstance(body, list):
        return jsonify(message="coupons registered", coupons=registered)
    return jsonify(message="coupon registered", **registered[0])


@api.post("/request")
def request_coupon() -> tuple[Response, dict[str, str]]:
    key = request.headers.get("Idempotency-Key")
    body, headers = handle_request(_coupons(), request.get_json(), key, request.root_path)
    return jsonify(body), headers


def handle_request(
    coupons: Coupons, body: Any, key: str | None, root: str
) -> tuple[dict[str, Any], dict[str, str]]:
    """Let a user request a coupon.

    Args:
        body: the JSON of the request, see RequestSchema.
        key: the Idempotency-Key of the client, if it sent one: a repetition is recognised by it.
        root: the path under which the application is mounted.

    Returns:
        Body and headers of the answer.

    Raises:
        ValidationError: body or key do not fit.
        CouponError: the request is refused; see `Coupons.request`.
    """
    loaded = _request_schema.load(body)
    request_id = secrets.token_urlsafe(12) if key is None else idempotency_key(key)
    answer = coupons.request(**loaded, request_id=request_id)
    user_id = quote(loaded["user_id"], safe="!$&'()*+,/:;=@")
    location = f"{root}{api.url_prefix}/{loaded['coupon_id']}/users/{user_id}"
    return {"message": "request accepted", **answer}, {"Location": location}


@api.get("/<coupon_id:coupon_id>/users/<user_id:user_id>")
def user(coupon_id: str, user_id: str) -> Response:
    answer = _coupons().user(coupon_id, user_id)
    response = jsonify(answer)
    if answer["status"] == "pending":
        response.headers["Retry-After"] = str(POLL_AFTER)
    return response


@api.get("/<coupon_id:coupon_id>")
def snapshot(coupon_id: str) -> Response:
    response = jsonify(_coupons().snapshot(coupon_id))
    response.headers["Cache-Control"] = "public, max-age=1"
    return response


def _coupons() -> Coupons:
    coupons: Coupons = current_app.extensions["coupon_service"].coupons
    return coupons
