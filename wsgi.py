"""Entry point of gunicorn and of `flask run`."""

from coupon_service import startup
from coupon_service.app import create_app
from coupon_service.config import from_environment

config = from_environment()
app = create_app(config)
startup.check(app.extensions["redis"], config)
