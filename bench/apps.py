"""The applications that the service is compared with, where they are a few lines of Flask.

gunicorn calls these functions in each of its processes.
"""

from typing import TYPE_CHECKING

from flask import Flask

if TYPE_CHECKING:
    from collections.abc import Iterable

    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment


def bare_flask() -> Flask:
    """Make the floor: what Flask and gunicorn cost by themselves. A route, a constant answer."""
    app = Flask(__name__)

    @app.post("/api/coupons/request")
    def request_coupon() -> dict[str, str]:
        return {"message": "request accepted", "status": "pending"}

    return app


def flask_alone() -> "WSGIApplication":
    """Make the service without its fast path, which steps aside for an app that is wrapped."""
    from wsgi import app

    def every_request(
        environ: "WSGIEnvironment", start_response: "StartResponse"
    ) -> "Iterable[bytes]":
        return app(environ, start_response)

    return every_request
