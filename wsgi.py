"""Entry point of gunicorn and of `flask run`."""

from coupon_service import startup
from coupon_service.app import create_app

app = create_app()
startup.check(app.extensions["redis"])
