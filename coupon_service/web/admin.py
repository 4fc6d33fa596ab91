"""The REST endpoints of administrators. All of them need the admin token."""

from collections.abc import Iterator
from itertools import islice
from urllib.parse import urlencode

from flask import Blueprint, Response, current_app, jsonify, request
from werkzeug.routing import BaseConverter

from coupon_service.admin import scatter_gather
from coupon_service.admin.csv_export import csv_lines
from coupon_service.admin.dead_letters import DEAD_LETTER, DeadLetters
from coupon_service.admin.operations import PAGE, Operations
from coupon_service.web.api import partitions
from coupon_service.web.auth import require_admin
from coupon_service.web.schemas import (
    CancelSchema,
    CouponsSchema,
    DeadLettersSchema,
    IssuancesSchema,
)

admin = Blueprint("admin", __name__, url_prefix="/api")
admin.before_request(require_admin)

_coupons_schema = CouponsSchema()
_issuances_schema = IssuancesSchema()
_cancel_schema = CancelSchema()
_dead_letters_schema = DeadLettersSchema()


class DeadLetterConverter(BaseConverter):
    """Lets only the name of a dead letter match a path."""

    regex = DEAD_LETTER


@admin.get("/coupons")
def coupons() -> Response:
    """List the coupons with their counters, by id."""
    query = _coupons_schema.load(request.args)
    page, after, missing = scatter_gather.list_coupons(partitions(), **query)
    return paged("after", after, coupons=page, **missing_member(missing))


@admin.get("/coupons/<coupon_id:coupon_id>/statistics")
def statistics(coupon_id: str) -> Response:
    """Read the counters of a coupon, and how fast it was issued recently."""
    return jsonify(_operations(coupon_id).statistics(coupon_id))


@admin.post("/coupons/<coupon_id:coupon_id>/close")
def close(coupon_id: str) -> Response:
    """Close a coupon now."""
    return jsonify(message="coupon closed", **_operations(coupon_id).close(coupon_id))


@admin.delete("/coupons/<coupon_id:coupon_id>")
def delete(coupon_id: str) -> Response:
    """Delete a coupon.

    Its pending requests are refused, and all its records but the log are removed.
    """
    return jsonify(message="coupon deleted", **_operations(coupon_id).delete(coupon_id))


@admin.delete("/coupons/<coupon_id:coupon_id>/users/<user_id:user_id>")
def cancel(coupon_id: str, user_id: str) -> Response:
    """Cancel an issuance, or withdraw a pending request.

    Place and stock return. A requestId makes it safe to repeat.
    """
    query = _cancel_schema.load(request.args)
    cancelled = _operations(coupon_id).cancel(coupon_id, user_id, **query)
    return jsonify(message="request cancelled", **cancelled)


@admin.get("/coupons/<coupon_id:coupon_id>/issuances")
def issuances(coupon_id: str) -> Response:
    """List the issuances of a coupon, the newest first; all of them as CSV."""
    query = _issuances_schema.load(request.args)
    if query["format"] == "csv":
        return _csv(coupon_id, query["user_id"], query["safe"] == "1")
    if query["user_id"] is not None:
        page = _operations(coupon_id).issuance(coupon_id, query["user_id"])
        return paged("before", "", issuances=page)
    page, after = _operations(coupon_id).issuances(coupon_id, query["limit"], query["before"])
    return paged("before", after, issuances=page)


@admin.get("/users/<user_id:user_id>/coupons")
def held_by(user_id: str) -> Response:
    """List what a user holds."""
    held, missing = scatter_gather.held_by(partitions(), user_id)
    return jsonify(userId=user_id, coupons=held, **missing_member(missing))


@admin.get("/dead-letters")
def dead_letters() -> Response:
    """List the entries that could not be decided, the oldest first."""
    found, after = DeadLetters(partitions()).page(**_dead_letters_schema.load(request.args))
    return paged("after", after, deadLetters=found)


@admin.post("/dead-letters/<dead_letter:name>/retry")
def retry(name: str) -> Response:
    """Put the request of a dead letter on the stream again."""
    retried = DeadLetters(partitions()).retry(name)
    return jsonify(message="request is on the stream again", **retried)


@admin.delete("/dead-letters/<dead_letter:name>")
def discard(name: str) -> Response:
    """Discard a dead letter.

    A request that is still pending is refused, and its place returns.
    """
    return jsonify(message="dead letter discarded", **DeadLetters(partitions()).discard(name))


def paged(parameter: str, following: str, **members: object) -> Response:
    """Make the answer that is a page: its members, and where the next begins, empty at the end,
    for this parameter of the query."""
    response: Response = jsonify(**members, next=following or None)
    if following:
        query = urlencode({**request.args, parameter: following})
        response.headers["Link"] = f'<?{query}>; rel="next"'
    return response


def _csv(coupon_id: str, user_id: str | None, safe: bool) -> Response:
    operations = _operations(coupon_id)
    if user_id is None:
        issuances = operations.all_issuances(coupon_id)
    else:
        issuances = iter(operations.issuance(coupon_id, user_id))
    lines = csv_lines(coupon_id, issuances, safe)
    # An iterator in both cases: an empty text would have a length, which is not that of GET.
    body = iter(()) if request.method == "HEAD" else _pages(lines)
    response = current_app.response_class(body, mimetype="text/csv")
    response.headers["Content-Disposition"] = f'attachment; filename="{coupon_id}.csv"'
    return response


def _pages(lines: Iterator[str]) -> Iterator[str]:
    while page := "".join(islice(lines, PAGE)):
        yield page


def missing_member(partitions: list[int]) -> dict[str, list[int]]:
    """Return the member of an answer that tells of partitions that are missing, if any are."""
    return {"missingPartitions": partitions} if partitions else {}


def _operations(coupon_id: str) -> Operations:
    return Operations(partitions().of(coupon_id))
