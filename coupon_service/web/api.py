"""The REST endpoints of users. Views load, call and return; what they call raises refusals."""

import secrets
from typing import Any
from urllib.parse import quote

from flask import Blueprint, Response, current_app, jsonify, request
from werkzeug.routing import BaseConverter

from coupon_service.coupons import Coupons
from coupon_service.errors import WrongUser
from coupon_service.installation import Partitions
from coupon_service.keys import NEW_COUPON_ID, NEW_USER_ID
from coupon_service.web.auth import require_admin_if_set, require_user, token_user
from coupon_service.web.schemas import RequestSchema, idempotency_key, registrations

api = Blueprint("api", __name__, url_prefix="/api/coupons")

REQUEST_PATH = f"{api.url_prefix}/request"
USER_RULE = "/<coupon_id:coupon_id>/users/<user_id:user_id>"
#: Seconds after which a client may poll a pending request again.
POLL_AFTER = 1
#: Bytes of a body that registers as many coupons as are allowed.
MAX_REGISTER_BODY = 512 * 1024

_request_schema = RequestSchema()
_token_request_schema = RequestSchema(partial=["user_id"])


class CouponIdConverter(BaseConverter):
    """Lets only a valid couponId match a path."""

    regex = NEW_COUPON_ID


class UserIdConverter(BaseConverter):
    """Lets any valid userId match the rest of a path, slashes included."""

    regex = NEW_USER_ID
    part_isolating = False


@api.post("/register")
def register() -> Response:
    """Register a coupon, or a list of them: all or none.

    The same again changes nothing; a larger quantity tops up.
    """
    require_admin_if_set()
    request.max_content_length = MAX_REGISTER_BODY
    body = request.get_json()
    registered = partitions().register(*registrations(body))
    if isinstance(body, list):
        return jsonify(message="coupons registered", coupons=registered)
    return jsonify(message="coupon registered", **registered[0])


@api.post("/request")
def request_coupon() -> tuple[Response, dict[str, str]]:  # see web/fast_path.py
    """Request a coupon for a user.

    With an Idempotency-Key the repetition of an accepted request gets the same answer.
    """
    user_id, key = token_user(), request.headers.get("Idempotency-Key")
    asked = load_request(request.get_json(), key, user_id)
    body, headers = accepted(_coupons(asked[0]).request(*asked), request.root_path)
    return jsonify(body), headers


def load_request(body: Any, key: str | None, token_user: str | None) -> tuple[str, str, str]:
    """Read what a user requests.

    Args:
        body: the JSON of the request, see RequestSchema.
        key: the Idempotency-Key of the client, if it sent one: a repetition is recognised by it.
        token_user: the user of the token; None if users have none, and the body says who asks.

    Returns:
        The arguments of `Coupons.request`.

    Raises:
        ValidationError: body or key do not fit.
        WrongUser: the body names another user than the token.
    """
    loaded = (_request_schema if token_user is None else _token_request_schema).load(body)
    user_id = loaded.get("user_id", token_user)
    if token_user not in (None, user_id):
        raise WrongUser("the token is that of another user")
    request_id = new_request_id() if key is None else idempotency_key(key)
    return loaded["coupon_id"], user_id, request_id


def accepted(answer: dict[str, Any], root: str) -> tuple[dict[str, Any], dict[str, str]]:
    """Make body and headers of the answer to an admitted request.

    Args:
        answer: what `Coupons.request` has returned.
        root: the path under which the application is mounted.
    """
    user_id = quote(answer["userId"], safe="!$&'()*+,/:;=@")
    location = f"{root.rstrip('/')}{api.url_prefix}/{answer['couponId']}/users/{user_id}"
    return {"message": "request accepted", **answer}, {"Location": location}


def new_request_id() -> str:
    """Return an id for a request whose client has given none."""
    # A "-" at the beginning would make it an option on a command line, a formula in a table.
    return secrets.token_urlsafe(9).replace("-", ".")


@api.get(USER_RULE)
def user(coupon_id: str, user_id: str) -> tuple[Response, dict[str, str]]:  # see web/fast_path.py
    """Read the status of a user's request."""
    require_user(user_id)
    body, headers = found(_coupons(coupon_id).user(coupon_id, user_id))
    return jsonify(body), headers


def found(answer: dict[str, Any]) -> tuple[dict[str, Any], dict[str, str]]:
    """Make body and headers of a status from what `Coupons.user` has returned."""
    return answer, {"Retry-After": str(POLL_AFTER)} if answer["status"] == "pending" else {}


@api.get("/<coupon_id:coupon_id>")
def snapshot(coupon_id: str) -> Response:
    """Read the counters and the state of a coupon."""
    response = jsonify(_coupons(coupon_id).snapshot(coupon_id))
    response.headers["Cache-Control"] = "public, max-age=1"
    response.add_etag()
    response.make_conditional(request)  # a 304 if the client has these numbers
    return response


def partitions() -> Partitions:
    """Return the data of the application."""
    data: Partitions = current_app.extensions["coupon_service"]
    return data


def _coupons(coupon_id: str) -> Coupons:
    return partitions().of(coupon_id).coupons
