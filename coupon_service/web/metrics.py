"""GET /metrics, for Prometheus."""

from importlib.util import find_spec

from flask import Blueprint, Response, current_app, request
from werkzeug.exceptions import NotImplemented

from coupon_service.web.api import partitions
from coupon_service.web.auth import require_admin_if_set
from coupon_service.web.health import monitoring
from coupon_service.web.http_counters import HttpCounters

metrics = Blueprint("metrics", __name__)


class MetricsNotInstalled(NotImplemented):
    """Raised when the metrics are asked for, and prometheus-client is not installed."""

    code_word = "metrics_not_installed"


@metrics.get("/metrics")
def scrape() -> Response:
    """Read the metrics, for Prometheus."""
    require_admin_if_set()
    counters = _counters()
    from coupon_service.web.collectors import exposition  # which loads prometheus-client

    body, content_type = exposition(
        partitions(), monitoring(), counters, request.headers.get("Accept", "")
    )
    return current_app.response_class(body, content_type=content_type)


def installed() -> bool:
    """Whether prometheus-client is, without which nothing is counted."""
    return find_spec("prometheus_client") is not None


def _counters() -> HttpCounters:
    counters: HttpCounters | None = getattr(current_app, "http_counters", None)
    if counters is None:
        raise MetricsNotInstalled("metrics need prometheus-client: pip install prometheus-client")
    return counters
