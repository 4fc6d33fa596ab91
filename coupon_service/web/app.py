"""The WSGI application."""

import re

from flask import Flask, Response
from redis import Redis
from werkzeug.middleware.proxy_fix import ProxyFix

from coupon_service.admin.monitoring import Monitoring
from coupon_service.config import Config, from_environment
from coupon_service.errors import ConfigError
from coupon_service.installation import Partitions
from coupon_service.web import problems
from coupon_service.web.admin import DeadLetterConverter, admin
from coupon_service.web.api import CouponIdConverter, UserIdConverter, api
from coupon_service.web.api_docs import api_docs
from coupon_service.web.dashboard import dashboard
from coupon_service.web.health import health
from coupon_service.web.http_counters import http_counters
from coupon_service.web.lean_flask import LeanFlask
from coupon_service.web.metrics import installed, metrics
from coupon_service.web.pages import pages
from coupon_service.web.user_tokens import user_tokens

#: Bytes of a request body; the largest valid one is far smaller.
MAX_BODY = 16 * 1024


def create_app(config: Config | None = None, client: Redis | None = None) -> Flask:
    """Make the application; Redis is not needed before the first request.

    Args:
        config: the settings; read from the environment if None.
        client: the connection to use; made from the settings if None.

    Returns:
        A WSGI application that may be served by any number of processes and threads; its
        `extensions` has the Partitions under "coupon_service", under "coupon_monitoring" what
        watches them.

    Raises:
        ConfigError: a setting cannot be used.
    """
    config = config or from_environment()
    app = LeanFlask(__name__)
    app.config["MAX_CONTENT_LENGTH"] = MAX_BODY
    # Two slashes may belong to a userId: they are not "corrected" by a redirect.
    app.url_map.merge_slashes = False
    app.url_map.converters.update(
        coupon_id=CouponIdConverter, user_id=UserIdConverter, dead_letter=DeadLetterConverter
    )

    partitions = Partitions(config, client)
    app.extensions["coupon_service"] = partitions
    app.extensions["coupon_monitoring"] = Monitoring(partitions)
    for blueprint in (api, admin, dashboard, pages, health, metrics, api_docs):
        app.register_blueprint(blueprint)
    if installed():
        app.http_counters = http_counters(tuple(rule.rule for rule in app.url_map.iter_rules()))
    app.user_tokens = user_tokens(config)
    problems.install(app)
    if config.cors_origins:
        _allow_origins(app, config.cors_origins)
    if config.proxies:
        hops = config.proxies
        app.wsgi_app = ProxyFix(  # type: ignore[method-assign]
            app.wsgi_app, x_for=hops, x_proto=hops, x_host=hops, x_prefix=hops
        )
    return app


def _allow_origins(app: Flask, origins: list[str]) -> None:
    try:
        from flask_cors import CORS
    except ModuleNotFoundError:
        raise ConfigError("COUPON_CORS_ORIGINS needs flask-cors: pip install flask-cors") from None

    CORS(
        app,
        resources={"/api/*": {
            # An expression, because flask-cors takes a text with special characters for one too.
            "origins": "*" if "*" in origins else [
                re.compile(re.escape(origin) + r"\Z") for origin in origins
            ],
        }},
        allow_headers=["Authorization", "Content-Type", "Idempotency-Key", "If-None-Match",
                       "X-Request-ID"],
        expose_headers=["ETag", "Link", "Location", "Retry-After", "X-Request-ID"],
        methods=["GET", "POST", "DELETE"],
        max_age=600,
        send_wildcard=True,
        always_send=True,
    )
    if "*" not in origins:
        # A cache must not hand the answer to a request without an Origin to a page of one.
        @app.after_request
        def vary(response: Response) -> Response:
            response.vary.add("Origin")
            return response
