"""Exceptions become problem+json (RFC 9457)."""

import logging
import re
from collections.abc import Mapping
from http import HTTPStatus
from types import MappingProxyType

from flask import Flask, Response, jsonify
from marshmallow import ValidationError
from werkzeug.exceptions import HTTPException, InternalServerError

from coupon_service.errors import CouponError, InvalidToken, TokenMissing, Unauthorized

log = logging.getLogger(__name__)

PROBLEM_TYPE = "application/problem+json"
#: HTTP status of the codes in `errors`.
STATUS = {
    "sold_out": 400,
    "unauthorized": 401,
    "invalid_token": 401,
    "token_expired": 401,
    "token_missing": 401,
    "admin_disabled": 403,
    "wrong_user": 403,
    "cross_site": 403,
    "unknown_coupon": 404,
    "not_requested": 404,
    "duplicate": 409,
    "not_open": 409,
    "closed": 409,
    "quantity_too_low": 409,
    "unknown_dead_letter": 404,
    "not_pending": 409,
    "being_removed": 409,
    "invalid_window": 422,
    "corrupt_data": 500,
    "misconfigured": 500,
    "unavailable": 503,
}


def problem(status: int, code: str, detail: str, **members: object) -> dict[str, object]:
    """Make the body of a problem; `members` are added to the standard ones."""
    return {
        "type": f"urn:coupon-service:problem:{code}",
        "title": code.replace("_", " ").capitalize(),
        "status": status,
        "code": code,
        "detail": detail,
        **members,
    }


def as_problem(error: CouponError) -> tuple[int, dict[str, object], dict[str, str]]:
    """Return HTTP status, body and headers of a refusal; log what an operator has to repair."""
    status = STATUS[error.code]
    if status == HTTPStatus.INTERNAL_SERVER_ERROR:
        log.error("%s error=%s", error, error.__cause__)
    headers = {}
    if error.retry_after is not None:
        headers["Retry-After"] = str(error.retry_after)
    if isinstance(error, Unauthorized):
        # Chromium asks for a password only where the first challenge is Basic.
        headers["WWW-Authenticate"] = 'Basic realm="admin", Bearer realm="admin"'
    if isinstance(error, InvalidToken):
        reason = "" if isinstance(error, TokenMissing) else ', error="invalid_token"'
        headers["WWW-Authenticate"] = f'Bearer realm="user"{reason}'
    return status, problem(status, error.code, str(error), **error.details), headers


def unexpected() -> tuple[int, dict[str, object], dict[str, str]]:
    """Return HTTP status, body and headers for an exception that is a defect, and log it."""
    log.exception("an exception that is a defect")
    error = InternalServerError()
    return 500, problem(500, "internal_server_error", str(error.description)), {}


def install(app: Flask) -> None:
    """Make `app` answer every exception with a problem."""
    app.register_error_handler(CouponError, _coupon_error)
    app.register_error_handler(ValidationError, _invalid_request)
    app.register_error_handler(HTTPException, _http_error)


def _response(
    status: int, body: dict[str, object], headers: Mapping[str, str] = MappingProxyType({})
) -> Response:
    response: Response = jsonify(body)
    response.status_code = status
    response.mimetype = PROBLEM_TYPE
    response.headers.update(headers)
    return response


def _coupon_error(error: CouponError) -> Response:
    return _response(*as_problem(error))


def _invalid_request(error: ValidationError) -> Response:
    return _response(422, problem(
        422, "invalid_request", "the request does not fit the schema", errors=error.messages
    ))


def _http_error(error: HTTPException) -> Response:
    status = error.code or HTTPStatus.INTERNAL_SERVER_ERROR
    code = getattr(error, "code_word", None) or re.sub(r"\W+", "_", error.name.lower())
    # Allow, Retry-After, Location: what the framework says beside the body is kept.
    headers = {
        name: value for name, value in error.get_headers() if name.lower() != "content-type"
    }
    return _response(status, problem(status, code, error.description or error.name), headers)
