"""The bodies and queries of requests. Fields that are not listed are refused."""

import re
from datetime import UTC, datetime, timedelta
from typing import Any

from marshmallow import Schema, ValidationError, fields, post_load, validate

from coupon_service.admin.dead_letters import DEAD_LETTER
from coupon_service.keys import COUPON_ID, NEW_COUPON_ID, NEW_USER_ID, REQUEST_ID
from coupon_service.scripts import WINDOW, Registration

#: Coupons of one call of register.
MAX_REGISTRATIONS = 1000
#: Coupons or issuances on one page: by default, and at the most.
PAGE, MAX_PAGE = 100, 1000

_coupon_id = validate.Regexp(
    re.compile(rf"{NEW_COUPON_ID}\Z"),
    error="1 to 64 characters of A-Z a-z 0-9 . _ ~ - but not . or .. or request or register",
)
#: How an id may begin: where a page begins, or what a search is for.
_beginning = validate.Regexp(
    re.compile(rf"(?:{COUPON_ID})?\Z"), error="up to 64 characters of A-Z a-z 0-9 . _ ~ -",
)
_user_id = validate.Regexp(
    re.compile(rf"{NEW_USER_ID}\Z"),
    error="1 to 128 characters without control characters, and no . or .. between slashes",
)

#: Section 5.6; with a blank for the T too, as its note allows.
_RFC_3339 = re.compile(
    r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(?:\.\d+)?(?:Z|[+-]\d\d:\d\d)", re.ASCII
)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
#: Beyond them an instant has no ms since 1970, or none that could be shown again.
_FIRST, _LAST = _EPOCH + timedelta(days=1), datetime.max.replace(tzinfo=UTC)


def _limit() -> fields.Integer:
    return fields.Integer(load_default=PAGE, validate=validate.Range(1, MAX_PAGE))


class Instant(fields.AwareDateTime):
    """RFC 3339 with an offset, from 1970-01-02 to 9999-12-31 UTC, loaded as ms since 1970."""

    def _deserialize(self, value: Any, *args: Any, **kwargs: Any) -> Any:
        value = value.upper() if isinstance(value, str) else value
        if not _RFC_3339.fullmatch(str(value)):  # Python reads other forms of ISO 8601 as well
            raise self.make_error("invalid", input=value, obj_type=self.OBJ_TYPE)
        loaded: datetime = super()._deserialize(value, *args, **kwargs)
        if not _FIRST <= loaded <= _LAST:
            raise ValidationError("not from 1970-01-02 to 9999-12-31 UTC")
        return (loaded - _EPOCH) // timedelta(milliseconds=1)


class RegisterSchema(Schema):
    """A coupon in the body of POST /api/coupons/register; loads a Registration."""

    coupon_id = fields.String(data_key="couponId", required=True, validate=_coupon_id)
    quantity = fields.Integer(required=True, strict=True, validate=validate.Range(1, 10**9))
    opensAt = Instant(allow_none=True)
    closesAt = Instant(allow_none=True)
    expiresAt = Instant(allow_none=True)

    @post_load
    def registration(self, loaded: dict[str, Any], **_: Any) -> Registration:
        """Make the Registration; a part of the window that is not given stays as it is."""
        window = {name: loaded[name] for name in WINDOW if name in loaded}
        return Registration(loaded["coupon_id"], loaded["quantity"], window)


class RequestSchema(Schema):
    """Body of POST /api/coupons/request."""

    coupon_id = fields.String(data_key="couponId", required=True, validate=_coupon_id)
    user_id = fields.String(data_key="userId", required=True, validate=_user_id)


class CouponsSchema(Schema):
    """Query of GET /api/coupons."""

    limit = _limit()
    after = fields.String(load_default="", validate=_beginning)
    prefix = fields.String(load_default="", validate=_beginning)


class DashboardSchema(CouponsSchema):
    """Query of GET /api/dashboard."""

    limit = fields.Integer(load_default=20, validate=validate.Range(1, 100))


class DeadLettersSchema(Schema):
    """Query of GET /api/dead-letters."""

    limit = _limit()
    after = fields.String(load_default="", validate=validate.Regexp(
        re.compile(rf"{DEAD_LETTER}\Z"), error="the next of the page before"
    ))


class CancelSchema(Schema):
    """Query of DELETE /api/coupons/{couponId}/users/{userId}."""

    request_id = fields.String(
        data_key="requestId", load_default="", validate=validate.Regexp(
            re.compile(rf"{REQUEST_ID}\Z"), error="1 to 64 visible ASCII characters"
        ),
    )


class IssuancesSchema(Schema):
    """Query of GET /api/coupons/{couponId}/issuances."""

    limit = _limit()
    before = fields.String(load_default="", validate=validate.Regexp(
        r"(?!0+-0+\Z)[0-9]{1,19}-[0-9]{1,19}\Z"  # nothing is before 0-0, and Redis says so
    ))
    user_id = fields.String(data_key="userId", load_default=None, validate=_user_id)
    format = fields.String(load_default="json", validate=validate.OneOf(["json", "csv"]))
    safe = fields.String(load_default="0", validate=validate.OneOf(["0", "1"]))


def registrations(body: Any) -> list[Registration]:
    """Load one coupon or a list of them; raises ValidationError."""
    if not isinstance(body, list):
        return [RegisterSchema().load(body)]
    if not 1 <= len(body) <= MAX_REGISTRATIONS:
        raise ValidationError(f"1 to {MAX_REGISTRATIONS} coupons")
    loaded: list[Registration] = RegisterSchema(many=True).load(body)
    if len({registration.coupon_id for registration in loaded}) < len(loaded):
        raise ValidationError("a couponId occurs twice")
    return loaded


def idempotency_key(value: str) -> str:
    """Return the header's `value`; raises ValidationError if it cannot be a request id."""
    if not re.fullmatch(REQUEST_ID, value):
        raise ValidationError({"Idempotency-Key": ["1 to 64 visible ASCII characters"]})
    return value
