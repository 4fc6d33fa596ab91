"""The id of an HTTP request, and which coupon request it was about."""

import re
import secrets
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIEnvironment

HEADER = "X-Request-ID"
#: Where the environment of a request has its id; gunicorn's access line reads it there.
_KEY = "HTTP_X_REQUEST_ID"
#: The same for the requestId of the answer, by which its decision is found.
_ANSWERED = "coupon.request_id"
_USABLE = re.compile(r"[\x21-\x7e]{1,64}")


def request_id(environ: "WSGIEnvironment") -> str:
    """Return the id that the client has given to its request (1 to 64 visible ASCII characters),
    or else a new one, which `environ` then has."""
    given: str | None = environ.get(_KEY)
    if given is None or not _USABLE.fullmatch(given):
        given = environ[_KEY] = secrets.token_urlsafe(12)
    return given


def note(environ: "WSGIEnvironment", body: Any) -> None:
    """Let the access line say the requestId in the body of an answer, if it has one."""
    if isinstance(body, dict) and "requestId" in body:
        environ[_ANSWERED] = body["requestId"]
