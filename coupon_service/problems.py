"""Exceptions become problem+json (RFC 9457) here, and nowhere else."""

import re
from http import HTTPStatus

from flask import Flask, Response, jsonify
from marshmallow import ValidationError
from werkzeug.exceptions import HTTPException

from coupon_service.errors import CouponError, Unauthorized

#: HTTP status of the codes in `errors`.
STATUS = {
    "sold_out": 400,
    "unauthorized": 401,
    "admin_disabled": 403,
    "unknown_coupon": 404,
    "not_requested": 404,
    "duplicate": 409,
    "not_open": 409,
    "closed": 409,
    "quantity_too_low": 409,
    "invalid_window": 422,
    "unavailable": 503,
}


def problem(status: int, code: str, detail: str, **members: object) -> Response:
    """Make a problem+json answer; `members` are added to the standard ones."""
    body = {
        "type": f"urn:coupon-service:problem:{code}",
        "title": code.replace("_", " ").capitalize(),
        "status": status,
        "code": code,
        "detail": detail,
        **members,
    }
    response = jsonify(body)
    response.status_code = status
    response.mimetype = "application/problem+json"
    return response


def install(app: Flask) -> None:
    """Make `app` answer every exception with a problem."""
    app.register_error_handler(CouponError, _coupon_error)
    app.register_error_handler(ValidationError, _invalid_request)
    app.register_error_handler(HTTPException, _http_error)


def _coupon_error(error: CouponError) -> Response:
    answer = problem(STATUS[error.code], error.code, str(error), **error.details)
    if error.retry_after is not None:
        answer.headers["Retry-After"] = str(error.retry_after)
    if isinstance(error, Unauthorized):
        answer.headers["WWW-Authenticate"] = 'Bearer realm="admin", Basic realm="admin"'
    return answer


def _invalid_request(error: ValidationError) -> Response:
    return problem(422, "invalid_request", "the request does not fit the schema",
                   errors=error.messages)


def _http_error(error: HTTPException) -> Response:
    status = error.code or HTTPStatus.INTERNAL_SERVER_ERROR
    code = getattr(error, "code_word", None) or re.sub(r"\W+", "_", error.name.lower())
    answer = problem(status, code, error.description or error.name)
    # Allow, Retry-After, Location: what the framework says beside the body is kept.
    for name, value in error.get_headers():
        if name.lower() != "content-type":
            answer.headers[name] = value
    return answer
