"""JSON in requests, read strictly: what two parsers could read differently is refused."""

import json
from typing import Any, NoReturn

from flask import Response, current_app, request
from flask.json.provider import DefaultJSONProvider
from werkzeug.exceptions import BadRequest

from coupon_service.web.request_id import note


class MalformedJSON(BadRequest):
    """Raised when the body of a request is not JSON (RFC 8259) with unique names."""

    code_word = "malformed_json"


class StrictJSON(DefaultJSONProvider):
    """Refuses what the json module lets through: duplicate names, NaN, endless nesting."""

    def loads(self, s: str | bytes, **kwargs: Any) -> Any:
        """Parse `s`; raises ValueError where it is not strict JSON."""
        text = s if isinstance(s, str) else s.decode(json.detect_encoding(s))
        try:
            return _DECODER.decode(text)
        except RecursionError:
            raise ValueError("nested too deeply") from None

    def response(self, *args: Any, **kwargs: Any) -> Response:
        """Return the response for the arguments of `jsonify`."""
        body = self._prepare_response_obj(args, kwargs)
        note(request.environ, body)
        return current_app.response_class(encode(body), mimetype=self.mimetype)


def encode(body: Any) -> bytes:
    """Return the body of an answer."""
    return f"{_ENCODER.encode(body)}\n".encode()


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) < len(pairs):
        raise ValueError("a name occurs twice in one object")
    return members


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not a JSON number")


# Made once: json.loads and json.dumps would make them for every call.
_DECODER = json.JSONDecoder(object_pairs_hook=_unique, parse_constant=_no_constant)
_ENCODER = json.JSONEncoder(separators=(",", ":"))
