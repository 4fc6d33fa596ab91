"""The fast path of the call that is made most: POST /api/coupons/request.

It answers requests of the ordinary form without Flask's dispatch, which costs more than all the
rest. Any other request goes on to Flask untouched, so what is wrong with a request is said in one
place; `tests/test_fast_path.py` holds both to the same answers.
"""

from collections.abc import Iterable
from http import HTTPStatus
from io import BytesIO
from typing import TYPE_CHECKING

from flask import Flask
from marshmallow import ValidationError
from redis.exceptions import RedisError

from coupon_service.coupons import Coupons
from coupon_service.errors import CouponError
from coupon_service.web.api import REQUEST_PATH, handle_request
from coupon_service.web.problems import PROBLEM_TYPE, as_problem
from coupon_service.web.strict_json import encode

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment

#: Sent with every answer that does not say otherwise.
HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}
_STATUS_LINE = {status.value: f"{status.value} {status.phrase.upper()}" for status in HTTPStatus}


class FastPath:
    """A WSGI application in front of `app`."""

    def __init__(self, app: Flask, coupons: Coupons, cross_origin: bool) -> None:
        self._next = app.wsgi_app
        self._loads = app.json.loads
        self._limit = app.config["MAX_CONTENT_LENGTH"]
        self._coupons = coupons
        # flask-cors decides whether pages of other origins may call.
        self._leave = ("HTTP_TRANSFER_ENCODING", *(["HTTP_ORIGIN"] if cross_origin else []))

    def __call__(
        self, environ: "WSGIEnvironment", start_response: "StartResponse"
    ) -> Iterable[bytes]:
        """Answer, or let Flask answer."""
        if (
            environ["PATH_INFO"] != REQUEST_PATH
            or environ["REQUEST_METHOD"] != "POST"
            or environ.get("CONTENT_TYPE") != "application/json"
            or any(name in environ for name in self._leave)
        ):
            return self._next(environ, start_response)
        length = environ.get("CONTENT_LENGTH", "")
        if not (length.isdecimal() and int(length) <= self._limit):
            return self._next(environ, start_response)
        data = environ["wsgi.input"].read(int(length))
        mimetype = "application/json"
        try:
            body, headers = handle_request(
                self._coupons, self._loads(data), environ.get("HTTP_IDEMPOTENCY_KEY"),
                environ.get("SCRIPT_NAME", ""),
            )
            status = 200
        except CouponError as error:
            status, body, headers = as_problem(error)
            mimetype = PROBLEM_TYPE
        except (ValueError, ValidationError, RedisError):
            # Nothing was changed: a script that fails has written nothing.
            environ["wsgi.input"] = BytesIO(data)
            return self._next(environ, start_response)
        sent = encode(body)
        start_response(_STATUS_LINE[status], [
            ("Content-Type", mimetype), ("Content-Length", str(len(sent))), *headers.items(),
            *HEADERS.items(),
        ])
        return [sent]
