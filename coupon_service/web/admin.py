"""The REST endpoints of administrators. All of them need the admin token."""

from collections.abc import Iterator
from itertools import islice

from flask import Blueprint, Response, current_app, jsonify, request

from coupon_service.admin.csv_export import csv_lines
from coupon_service.admin.operations import PAGE, Operations
from coupon_service.web.auth import require_admin
from coupon_service.web.schemas import CancelSchema, CouponsSchema, IssuancesSchema

admin = Blueprint("admin", __name__, url_prefix="/api")
admin.before_request(require_admin)

_coupons_schema = CouponsSchema()
_issuances_schema = IssuancesSchema()
_cancel_schema = CancelSchema()


@admin.get("/coupons")
def coupons() -> Response:
    page, after = _operations().coupons(**_coupons_schema.load(request.args))
    return jsonify(coupons=page, next=after)


@admin.get("/coupons/<coupon_id:coupon_id>/statistics")
def statistics(coupon_id: str) -> Response:
    return jsonify(_operations().statistics(coupon_id))


@admin.post("/coupons/<coupon_id:coupon_id>/close")
def close(coupon_id: str) -> Response:
    return jsonify(message="coupon closed", **_operations().close(coupon_id))


@admin.delete("/coupons/<coupon_id:coupon_id>")
def delete(coupon_id: str) -> Response:
    return jsonify(message="coupon deleted", **_operations().delete(coupon_id))


@admin.delete("/coupons/<coupon_id:coupon_id>/users/<user_id:user_id>")
def cancel(coupon_id: str, user_id: str) -> Response:
    query = _cancel_schema.load(request.args)
    return jsonify(message="request cancelled", **_operations().cancel(coupon_id, user_id, **query))


@admin.get("/coupons/<coupon_id:coupon_id>/issuances")
def issuances(coupon_id: str) -> Response:
    query = _issuances_schema.load(request.args)
    if query["format"] == "csv":
        return _csv(coupon_id, query["user_id"], query["safe"] == "1")
    if query["user_id"] is not None:
        return jsonify(issuances=_operations().issuance(coupon_id, query["user_id"]), next="")
    page, after = _operations().issuances(coupon_id, query["limit"], query["before"])
    return jsonify(issuances=page, next=after)


@admin.get("/users/<user_id:user_id>/coupons")
def held_by(user_id: str) -> Response:
    return jsonify(userId=user_id, coupons=_operations().held_by(user_id))


def _csv(coupon_id: str, user_id: str | None, safe: bool) -> Response:
    operations = _operations()
    if user_id is None:
        issuances = operations.all_issuances(coupon_id)
    else:
        issuances = iter(operations.issuance(coupon_id, user_id))
    lines = csv_lines(coupon_id, issuances, safe)
    response = current_app.response_class(_pages(lines), mimetype="text/csv")
    response.headers["Content-Disposition"] = f'attachment; filename="{coupon_id}.csv"'
    return response


def _pages(lines: Iterator[str]) -> Iterator[str]:
    while page := "".join(islice(lines, PAGE)):
        yield page


def _operations() -> Operations:
    return Operations(current_app.extensions["coupon_service"])
