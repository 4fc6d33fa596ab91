"""Entry point of gunicorn and of `flask run`."""

from coupon_service.web import preflight
from coupon_service.web.app import create_app

app = create_app()
preflight.check(app.extensions["coupon_service"])
