"""The fast path of the calls that are made most: requests for a coupon, and polls of their status.

It belongs to the gunicorn worker, which puts it before the application, because Flask's dispatch
costs more than all the rest of these calls. Any request but one of the ordinary form goes on to the
view in `web/api.py` untouched, so what is wrong with a request is said in one place;
`tests/test_fast_path.py` holds both to the same answers.
"""

import re
from collections.abc import Callable, Iterable
from http import HTTPStatus
from io import BytesIO
from time import perf_counter_ns
from typing import TYPE_CHECKING, Any

from flask import Flask, signals
from werkzeug.middleware.proxy_fix import ProxyFix

from coupon_service.errors import CouponError
from coupon_service.installation import Partitions
from coupon_service.keys import NEW_COUPON_ID, NEW_USER_ID, REQUEST_ID
from coupon_service.web.api import (
    REQUEST_PATH, USER_RULE, accepted, api, found, new_request_id,
)
from coupon_service.web.lean_flask import HEADERS, LeanFlask
from coupon_service.web.problems import PROBLEM_TYPE, as_problem, unexpected
from coupon_service.web.request_id import HEADER, note, request_id
from coupon_service.web.strict_json import encode

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment

_STATUS_LINE = {status.value: f"{status.value} {status.phrase.upper()}" for status in HTTPStatus}
_HEADERS = HEADERS.to_wsgi_list()
#: Attributes of an application with the functions that are to see each request, by blueprint.
_HOOKS = ("before_request_funcs", "after_request_funcs", "teardown_request_funcs",
          "url_value_preprocessors")
#: Headers of requests that are left to Flask: a body of unknown length, another root.
_UNUSUAL = ("HTTP_TRANSFER_ENCODING", "HTTP_X_FORWARDED_PREFIX")
_POLL = f"{api.url_prefix}{USER_RULE}"
_POLL_PATH = re.compile(f"{api.url_prefix}/({NEW_COUPON_ID})/users/({NEW_USER_ID})")
_COUPON_ID, _USER_ID, _KEY = map(re.compile, (NEW_COUPON_ID, NEW_USER_ID, REQUEST_ID))
#: Makes body and headers of the answer to one request.
_Answer = Callable[[], tuple[dict[str, Any], dict[str, str]]]
#: What the application itself keeps there.
EXTENSIONS = {"coupon_service", "coupon_monitoring"}


def put_before(app: Any) -> Any:
    """Return a WSGI application that is as `app`, with the fast path where that may be.

    Whoever has wrapped the application, registered a hook or a receiver of its signals on it, or
    an extension, wants to see every request: then `app` itself is returned.
    """
    return FastPath(app) if isinstance(app, LeanFlask) and _is_plain(app) else app


def _is_plain(app: Flask) -> bool:
    inner = app.wsgi_app.app if isinstance(app.wsgi_app, ProxyFix) else app.wsgi_app
    hooked = any(getattr(app, hooks).get(name) for hooks in _HOOKS for name in (None, "api"))
    heard = any(
        signal.receivers for name, signal in vars(signals).items()
        if name.startswith(("request_", "got_", "appcontext_"))
    )
    return (
        getattr(inner, "__func__", None) is Flask.wsgi_app
        and not hooked and not heard and not app.teardown_appcontext_funcs
        and app.extensions.keys() == EXTENSIONS
    )


class FastPath:
    """A WSGI application in front of `app`."""

    def __init__(self, app: LeanFlask) -> None:
        self._next = app
        self._counters = app.http_counters
        self._tokens = app.user_tokens
        self._loads = app.json.loads
        self._limit: int = app.config["MAX_CONTENT_LENGTH"]
        self._partitions: Partitions = app.extensions["coupon_service"]

    def __call__(
        self, environ: "WSGIEnvironment", start_response: "StartResponse"
    ) -> Iterable[bytes]:
        """Answer, or let Flask answer."""
        begun = perf_counter_ns()
        method, path, answer = environ["REQUEST_METHOD"], environ["PATH_INFO"], None
        if any(name in environ for name in _UNUSUAL):
            pass
        elif method == "POST" and path == REQUEST_PATH:
            rule, answer = path, self._request(environ)
        elif method == "GET" and not environ.get("QUERY_STRING"):
            rule, answer = _POLL, self._poll(environ, path)
        if answer is None:
            return self._next(environ, start_response)
        mimetype = "application/json"
        try:
            status, (body, headers) = 200, answer()
        except Exception as error:  # as Flask does, which must not see the request again
            status, body, headers = (
                as_problem(error) if isinstance(error, CouponError) else unexpected()
            )
            mimetype = PROBLEM_TYPE
        note(environ, body)
        sent = encode(body)
        if self._counters:
            self._counters.count(rule, method, status, perf_counter_ns() - begun)
        start_response(_STATUS_LINE[status], [
            *_HEADERS, ("Content-Type", mimetype), ("Content-Length", str(len(sent))),
            *headers.items(), (HEADER, request_id(environ)),
        ])
        return [sent]

    def _poll(self, environ: "WSGIEnvironment", path: str) -> _Answer | None:
        """Return what answers a poll; None if it is none, or not of the ordinary form."""
        try:
            path = path.encode("latin-1").decode()
            ids = _POLL_PATH.fullmatch(path)
            # What U+FFFD stands for, `LeanFlask.create_url_adapter` finds out.
            if ids is None or "\ufffd" in path or self._user(environ) not in (None, ids[2]):
                return None
        except (CouponError, UnicodeError):
            return None
        coupon_id, user_id = ids.groups()
        coupons = self._partitions.of(coupon_id).coupons
        return lambda: found(coupons.user(coupon_id, user_id))

    def _user(self, environ: "WSGIEnvironment") -> str | None:
        """Return who is asking, as `auth.token_user` does."""
        if self._tokens is None:
            return None
        return self._tokens.user(environ.get("HTTP_AUTHORIZATION", ""))

    def _request(self, environ: "WSGIEnvironment") -> _Answer | None:
        """Return what answers a request for a coupon; None if it is not of the ordinary form."""
        length = environ.get("CONTENT_LENGTH", "")
        if (
            environ.get("CONTENT_TYPE") != "application/json"
            or not length.isdecimal()
            or int(length) > self._limit
        ):
            return None
        data = b""
        try:
            data = environ["wsgi.input"].read(int(length))
            if len(data) == int(length):
                asked = _ordinary(
                    self._loads(data), environ.get("HTTP_IDEMPOTENCY_KEY"), self._user(environ)
                )
                coupons = self._partitions.of(asked[0]).coupons
                root = environ.get("SCRIPT_NAME", "")
                return lambda: accepted(coupons.request(*asked), root)
        except (OSError, ValueError, CouponError):
            pass
        environ["wsgi.input"] = BytesIO(data)
        return None


def _ordinary(body: Any, key: str | None, token_user: str | None) -> tuple[str, str, str]:
    """Return what `load_request` returns for the ordinary form of a request.

    Raises:
        ValueError: the request is of another form, and what is wrong with it, if anything, is not
            said here.
    """
    match body:
        case {"couponId": str(coupon_id), "userId": str(user_id)} if len(body) == 2:
            pass
        case {"couponId": str(coupon_id)} if len(body) == 1 and token_user is not None:
            user_id = token_user
        case _:
            raise ValueError
    key = new_request_id() if key is None else key
    if (
        _COUPON_ID.fullmatch(coupon_id) and _USER_ID.fullmatch(user_id)
        and _KEY.fullmatch(key) and token_user in (None, user_id)
    ):
        return coupon_id, user_id, key
    raise ValueError
