"""The WSGI application."""

from flask import Flask
from redis import Redis

from coupon_service import problems
from coupon_service.api import CouponIdConverter, UserIdConverter, api
from coupon_service.config import Config, from_environment
from coupon_service.connection import connect
from coupon_service.coupons import Coupons
from coupon_service.keys import Keys
from coupon_service.strict_json import StrictJSON, StrictRequest

#: Bytes of a request body; the largest valid one is far smaller.
MAX_BODY = 16 * 1024


def create_app(config: Config | None = None, client: Redis | None = None) -> Flask:
    """Make the application; Redis is not needed before the first request.

    Args:
        config: the settings; read from the environment if None.
        client: the connection to use; made from the settings if None.

    Returns:
        A WSGI application that may be served by any number of processes and threads.

    Raises:
        environs.EnvError, ValueError: a setting cannot be used.
    """
    config = config or from_environment()
    app = Flask(__name__)
    app.config["MAX_CONTENT_LENGTH"] = MAX_BODY
    app.json = StrictJSON(app)
    app.request_class = StrictRequest
    # Two slashes may belong to a userId: they are not "corrected" by a redirect.
    app.url_map.merge_slashes = False
    app.url_map.converters.update(coupon_id=CouponIdConverter, user_id=UserIdConverter)
    client = client or connect(config.redis_url, config.redis_timeout, 1, config.redis_verify)
    app.extensions["redis"] = client
    app.extensions["coupons"] = Coupons(client, Keys(config.key_prefix))
    app.register_blueprint(api)
    problems.install(app)
    return app
