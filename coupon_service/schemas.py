"""What the bodies of requests must look like. Fields that are not listed are refused."""

import re

from marshmallow import Schema, ValidationError, fields, validate

from coupon_service.keys import COUPON_ID, REQUEST_ID, USER_ID

_coupon_id = validate.Regexp(
    re.compile(rf"{COUPON_ID}\Z"), error="1 to 64 characters of A-Z a-z 0-9 . _ ~ -"
)
_user_id = validate.Regexp(
    re.compile(rf"{USER_ID}\Z"), error="1 to 128 characters without control characters"
)


class RegisterSchema(Schema):
    """Body of POST /api/coupons/register."""

    coupon_id = fields.String(data_key="couponId", required=True, validate=_coupon_id)
    quantity = fields.Integer(required=True, strict=True, validate=validate.Range(1, 10**9))


class RequestSchema(Schema):
    """Body of POST /api/coupons/request."""

    coupon_id = fields.String(data_key="couponId", required=True, validate=_coupon_id)
    user_id = fields.String(data_key="userId", required=True, validate=_user_id)


def idempotency_key(value: str) -> str:
    """Return the header's `value`; raises ValidationError if it cannot be a request id."""
    if not re.fullmatch(REQUEST_ID, value):
        raise ValidationError({"Idempotency-Key": ["1 to 64 visible ASCII characters"]})
    return value
