"""The REST endpoints of administrators. All of them need the admin token."""

from flask import Blueprint, Response, current_app, jsonify, request

from coupon_service.administration import Administration
from coupon_service.auth import require_admin
from coupon_service.export import csv_lines
from coupon_service.schemas import IssuancesSchema

admin = Blueprint("admin", __name__, url_prefix="/api")
admin.before_request(require_admin)

_issuances_schema = IssuancesSchema()


@admin.get("/coupons")
def coupons() -> Response:
    return jsonify(coupons=_administration().coupons())


@admin.get("/coupons/<coupon_id:coupon_id>/statistics")
def statistics(coupon_id: str) -> Response:
    return jsonify(_administration().statistics(coupon_id))


@admin.post("/coupons/<coupon_id:coupon_id>/close")
def close(coupon_id: str) -> Response:
    return jsonify(message="coupon closed", **_administration().close(coupon_id))


@admin.delete("/coupons/<coupon_id:coupon_id>")
def delete(coupon_id: str) -> Response:
    return jsonify(message="coupon deleted", **_administration().delete(coupon_id))


@admin.delete("/coupons/<coupon_id:coupon_id>/users/<user_id:user_id>")
def cancel(coupon_id: str, user_id: str) -> Response:
    return jsonify(message="request cancelled", **_administration().cancel(coupon_id, user_id))


@admin.get("/coupons/<coupon_id:coupon_id>/issuances")
def issuances(coupon_id: str) -> Response:
    query = _issuances_schema.load(request.args)
    if query["format"] == "csv":
        return _csv(coupon_id, query["user_id"])
    if query["user_id"] is not None:
        return jsonify(issuances=_administration().issuance(coupon_id, query["user_id"]), next="")
    page, after = _administration().issuances(coupon_id, query["limit"], query["before"])
    return jsonify(issuances=page, next=after)


@admin.get("/users/<user_id:user_id>/coupons")
def held_by(user_id: str) -> Response:
    return jsonify(userId=user_id, coupons=_administration().held_by(user_id))


def _csv(coupon_id: str, user_id: str | None) -> Response:
    administration = _administration()
    if user_id is None:
        lines = csv_lines(coupon_id, administration.all_issuances(coupon_id))
    else:
        lines = csv_lines(coupon_id, iter(administration.issuance(coupon_id, user_id)))
    response = Response(lines, mimetype="text/csv")
    response.headers["Content-Disposition"] = f'attachment; filename="{coupon_id}.csv"'
    return response


def _administration() -> Administration:
    administration: Administration = current_app.extensions["administration"]
    return administration
