"""The WSGI application."""

from flask import Flask, Response
from redis import Redis
from werkzeug.middleware.proxy_fix import ProxyFix

from coupon_service.config import Config, from_environment
from coupon_service.connection import connect
from coupon_service.installation import Installation
from coupon_service.web import problems
from coupon_service.web.admin import admin
from coupon_service.web.api import CouponIdConverter, UserIdConverter, api
from coupon_service.web.fast_path import HEADERS, FastPath
from coupon_service.web.strict_json import StrictJSON, StrictRequest

#: Bytes of a request body; the largest valid one is far smaller.
MAX_BODY = 16 * 1024


def create_app(config: Config | None = None, client: Redis | None = None) -> Flask:
    """Make the application; Redis is not needed before the first request.

    Args:
        config: the settings; read from the environment if None.
        client: the connection to use; made from the settings if None.

    Returns:
        A WSGI application that may be served by any number of processes and threads; its
        `extensions["coupon_service"]` is the Installation.

    Raises:
        environs.EnvError, ValueError: a setting cannot be used.
        ModuleNotFoundError: a setting needs an extra that is not installed.
    """
    config = config or from_environment()
    app = Flask(__name__)
    app.config["MAX_CONTENT_LENGTH"] = MAX_BODY
    app.json = StrictJSON(app)
    app.request_class = StrictRequest
    # Two slashes may belong to a userId: they are not "corrected" by a redirect.
    app.url_map.merge_slashes = False
    app.url_map.converters.update(coupon_id=CouponIdConverter, user_id=UserIdConverter)

    installation = Installation(config, client or connect(config))
    app.extensions["coupon_service"] = installation
    app.register_blueprint(api)
    app.register_blueprint(admin)
    problems.install(app)
    app.after_request(_add_headers)
    app.wsgi_app = FastPath(  # type: ignore[method-assign]
        app, installation.coupons, bool(config.cors_origins)
    )
    if config.cors_origins:
        _allow_origins(app, config.cors_origins)
    if config.proxies:
        hops = config.proxies
        app.wsgi_app = ProxyFix(  # type: ignore[method-assign]
            app.wsgi_app, x_for=hops, x_proto=hops, x_host=hops, x_prefix=hops
        )
    return app


def _add_headers(response: Response) -> Response:
    for name, value in HEADERS.items():
        response.headers.setdefault(name, value)
    return response


def _allow_origins(app: Flask, origins: list[str]) -> None:
    from flask_cors import CORS

    CORS(
        app,
        resources={"/api/*": {"origins": origins}},
        allow_headers=["Authorization", "Content-Type", "Idempotency-Key"],
        expose_headers=["Location", "Retry-After", "X-Request-ID"],
        methods=["GET", "POST", "DELETE"],
        max_age=600,
        send_wildcard=True,
    )
