"""Entry point of gunicorn and of `flask run`."""

import click

from coupon_service import logs
from coupon_service.cli.coupons import coupons
from coupon_service.cli.ledger import ledger
from coupon_service.cli.up import up
from coupon_service.config import from_environment
from coupon_service.errors import ConfigError
from coupon_service.web import preflight
from coupon_service.web.app import create_app

try:
    config = from_environment()
    logs.configure(config, logs.TEXT_WITH_PID)
    app = create_app(config)
except ConfigError as error:
    preflight.cannot_serve(error)
# For a deployment that has installed the requirements alone.
app.cli.add_command(coupons)
app.cli.add_command(ledger)
app.cli.add_command(up)
command = click.get_current_context(silent=True)
if command is None or command.info_name == "run":  # no other command of flask serves requests
    preflight.check(app.extensions["coupon_service"])
