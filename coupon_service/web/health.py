"""Whether the process is alive, and whether it can serve: for load balancers. No token needed."""

from flask import Blueprint, Response, current_app, jsonify

from coupon_service.admin.monitoring import Monitoring

health = Blueprint("health", __name__)


@health.get("/healthz")
def alive() -> Response:
    """Say that the process is alive."""
    return jsonify(status="alive")


@health.get("/readyz")
def ready() -> Response:
    """Say whether Redis can be used."""
    return jsonify(status="ready", **monitoring().readiness())


def monitoring() -> Monitoring:
    """Return what watches the data of the application."""
    watching: Monitoring = current_app.extensions["coupon_monitoring"]
    return watching
