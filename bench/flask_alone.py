"""The service without its fast path, which steps aside for an application that is wrapped."""

from typing import TYPE_CHECKING

import wsgi

if TYPE_CHECKING:
    from collections.abc import Iterable

    from _typeshed.wsgi import StartResponse, WSGIEnvironment


def app(environ: "WSGIEnvironment", start_response: "StartResponse") -> "Iterable[bytes]":
    """Let Flask answer every request."""
    return wsgi.app(environ, start_response)
