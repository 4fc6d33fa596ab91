"""What the pages of administrators poll. However many coupons and issuances there are, a poll costs
Redis a page."""

from typing import Any

from flask import Blueprint, Response, jsonify, request

from coupon_service.admin import decision_times, scatter_gather
from coupon_service.admin.coupon_totals import read_live
from coupon_service.admin.dead_letters import DeadLetters
from coupon_service.admin.monitoring import Queue, readiness
from coupon_service.admin.operations import Operations
from coupon_service.admin.series import read_series
from coupon_service.ledger.status import Status, all_statuses
from coupon_service.web.admin import missing_member, paged
from coupon_service.web.api import partitions
from coupon_service.web.auth import require_admin
from coupon_service.web.health import monitoring
from coupon_service.web.preflight import warnings
from coupon_service.web.schemas import DashboardSchema

dashboard = Blueprint("dashboard", __name__, url_prefix="/api/dashboard")
dashboard.before_request(require_admin)

#: Coupons that are shown as live.
LIVE = 5
#: Issuances of a coupon, and dead letters, that are shown.
NEWEST = 20

_dashboard_schema = DashboardSchema()


@dashboard.after_request
def without_prompt(response: Response) -> Response:
    """Offer no Basic, because a browser would ask for a password at every poll with an old one."""
    if response.status_code == 401:
        response.headers["WWW-Authenticate"] = 'Bearer realm="admin"'
    return response


@dashboard.get("")
def overview() -> Response:
    """Read the queue, the open coupons that were active last, and a page of all coupons."""
    query = _dashboard_schema.load(request.args)
    queue, data = monitoring().readiness(), partitions()
    live = [] if query["after"] or query["prefix"] else read_live(data, LIVE)
    coupons, after, missing = scatter_gather.list_coupons(data, **query)
    return paged("after", after, queue=queue, live=live, coupons=coupons,
                 **missing_member(missing))


@dashboard.get("/coupons/<coupon_id:coupon_id>")
def coupon(coupon_id: str) -> Response:
    """Read a coupon's statistics, how it was issued over time, and its newest issuances."""
    installation = partitions().of(coupon_id)
    operations = Operations(installation)
    return jsonify(
        queue=monitoring().readiness(),
        coupon=operations.statistics(coupon_id),
        series=read_series(installation, coupon_id),
        issuances=operations.issuances(coupon_id, NEWEST)[0],
    )


@dashboard.get("/system")
def system() -> Response:
    """Read the partitions, the first dead letters, the ledger and the warnings of the preflight."""
    queues, data = monitoring().queues(), partitions()
    with_dead = [each for each, queue in queues.items() if queue and queue.dead_letters]
    dead_letters, after = DeadLetters(with_dead).page(NEWEST)
    return jsonify(
        queue=readiness(queues),
        partitions=[_partition(each.partition, queue) for each, queue in queues.items()],
        deadLetters=dead_letters, next=after or None,
        ledger=[_sink(status) for status in all_statuses(data)],
        decisionTimes=decision_times.read_recent(data),
        warnings=warnings(data),
    )


def _partition(number: int, queue: Queue | None) -> dict[str, Any]:
    names = queue and queue.workers
    return {
        "partition": number,
        "usable": queue is not None,
        "backlog": queue and queue.backlog,
        "oldestSeconds": queue and queue.oldest_seconds,
        "workers": None if names is None else sorted(names),
        "deadLetters": queue and queue.dead_letters,
    }


def _sink(status: Status) -> dict[str, Any]:
    return {
        "sink": status.sink,
        "partition": status.partition,
        "cursor": status.cursor,
        "lagSeconds": status.lag,
        "kind": status.kind or None,
        "error": status.error or None,
    }
