"""Flask without what this API never needs, for speed: see docs/performance.md."""

from collections.abc import Iterable
from time import perf_counter_ns
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote_to_bytes

from flask import Flask, Request, Response
from werkzeug.datastructures import Headers
from werkzeug.exceptions import BadRequest, NotFound, RequestEntityTooLarge
from werkzeug.routing import MapAdapter

from coupon_service.web.http_counters import OTHER, HttpCounters
from coupon_service.web.request_id import HEADER, request_id
from coupon_service.web.strict_json import MalformedJSON, StrictJSON
from coupon_service.web.user_tokens import UserTokens

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment

#: Sent with every answer that does not say otherwise.
HEADERS = Headers({
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
})


class LeanRequest(Request):
    """A request whose body is read in one go; unreadable JSON is a MalformedJSON."""

    def get_data(self, *args: Any, **kwargs: Any) -> Any:
        """Return the body.

        Raises:
            RequestEntityTooLarge: also where its length was not declared; Werkzeug silently cuts
                such a body off at the limit instead.
            BadRequest: it ends before its declared length.
        """
        limit = self.max_content_length
        declared = self.environ.get("CONTENT_LENGTH", "")
        if declared.isdecimal() and not self.__dict__.keys() & {"_cached_data", "form", "stream"}:
            length = int(declared)
            if limit is not None and length > limit:
                raise RequestEntityTooLarge()
            try:
                self._cached_data = self.environ["wsgi.input"].read(length)
            except OSError:
                self._cached_data = b""
            if len(self._cached_data) < length:
                raise BadRequest("the body ends before its declared length")
        data = super().get_data(*args, **kwargs)
        if not declared and limit is not None and len(data) >= limit:
            raise RequestEntityTooLarge()
        return data

    def on_json_loading_failed(self, e: ValueError | None) -> Any:
        """Raise MalformedJSON; without `e` the body is not declared as JSON, which is a 415."""
        if e is None:
            return super().on_json_loading_failed(e)
        raise MalformedJSON(f"the body is not valid JSON: {e}")


class LeanResponse(Response):
    """A response that has HEADERS from the beginning, and whose headers are sent as they are."""

    def __init__(
        self, response: Any = None, status: Any = None, headers: Any = None, **kwargs: Any
    ) -> None:
        defaults = HEADERS.copy()
        if headers:
            defaults.update(headers)
        super().__init__(response, status, defaults, **kwargs)

    def get_wsgi_headers(self, environ: "WSGIEnvironment") -> Headers:
        """Return the headers, which mostly need no change: a body of bytes has set its length."""
        self.headers[HEADER] = request_id(environ)
        if (
            "Content-Length" in self.headers and self.status_code not in (204, 304)
            and self.headers.get("Location", "").isascii()
        ):
            return self.headers
        return super().get_wsgi_headers(environ)


class LeanFlask(Flask):
    """An application that routes by the path alone, and counts its answers."""

    json_provider_class = StrictJSON
    request_class = LeanRequest
    response_class = LeanResponse
    #: None: nothing is counted.
    http_counters: HttpCounters | None = None
    #: None: users have no tokens.
    user_tokens: UserTokens | None = None

    def __call__(
        self, environ: "WSGIEnvironment", start_response: "StartResponse"
    ) -> Iterable[bytes]:
        """Answer a request. Counted is every answer, those of error handlers included, when its
        head is ready: the parts of a large one follow as fast as the client reads them."""
        counters, begun = self.http_counters, perf_counter_ns()
        if counters is None:
            return super().__call__(environ, start_response)

        def counted(status: str, *rest: Any) -> Any:
            # Werkzeug leaves the request there, and Flask in it the rule that has matched.
            rule = getattr(environ.get("werkzeug.request"), "url_rule", None)
            counters.count(
                rule.rule if rule else OTHER, environ["REQUEST_METHOD"], int(status[:3]),
                perf_counter_ns() - begun,
            )
            return start_response(status, *rest)

        return super().__call__(environ, counted)

    def create_url_adapter(self, request: Request | None) -> MapAdapter | None:
        """Bind the routes to the path of a request, whatever host it names.

        Raises:
            NotFound: the path is not UTF-8: what Werkzeug makes of it could be another user's.
        """
        if request is not None and "\ufffd" in request.path:
            # In the path of the development server it is replaced already.
            target = request.environ.get("RAW_URI", "").partition("?")[0]
            try:
                request.environ["PATH_INFO"].encode("latin-1").decode()
                unquote_to_bytes(target).decode()
            except UnicodeDecodeError:
                raise NotFound from None
        if request is None or self.config["SERVER_NAME"] or self.config["TRUSTED_HOSTS"]:
            return super().create_url_adapter(request)
        return MapAdapter(
            self.url_map, request.environ.get("HTTP_HOST", "localhost"), request.root_path, "",
            request.scheme, request.path, request.method,
        )
