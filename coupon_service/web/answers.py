"""The bodies of answers, for the OpenAPI document alone: nothing is made or checked by them."""

from typing import Any

from marshmallow import Schema, fields, validate

from coupon_service.poll_after import LONGEST_MS, SHORTEST_MS
from coupon_service.snapshot import REFUSALS

_EXAMPLE_ID, _WHEN = "Ypt3W_dpzV3LIqVZ", "2026-11-22T09:12:47.201Z"


def _text(example: str = "", **options: Any) -> fields.String:
    return fields.String(required=True, metadata={"example": example}, **options)


def _number(example: int = 1, **options: Any) -> fields.Integer:
    return fields.Integer(
        required=True, validate=validate.Range(min=0), metadata={"example": example}, **options
    )


def _instant(required: bool = True, **options: Any) -> fields.AwareDateTime:
    return fields.AwareDateTime(required=required, metadata={"example": _WHEN}, **options)


def _one_of(*values: str) -> fields.String:
    return fields.String(
        required=True, validate=validate.OneOf(values), metadata={"example": values[0]}
    )


def _next() -> fields.String:
    return fields.String(required=True, allow_none=True, metadata={
        "description": "where the next page begins; null at the end", "example": None,
    })


def _poll_after(required: bool) -> fields.Integer:
    return fields.Integer(
        required=required, validate=validate.Range(SHORTEST_MS, LONGEST_MS), metadata={
            "description": "milliseconds after which to ask for the status (again)", "example": 50,
        },
    )


def _missing() -> "fields.List[Any]":
    return fields.List(fields.Integer(), metadata={
        "description": "numbers of the partitions that cannot be used now", "example": [3],
    })


class Counted(Schema):
    """What a registration leaves."""

    couponId = _text("SPRING2025")
    quantity, stock, requested = _number(1000), _number(1000), _number(0)


class Registered(Counted):
    """The answer to the registration of one coupon."""

    message = _one_of("coupon registered")


class RegisteredMany(Schema):
    """The answer to the registration of a list."""

    message = _one_of("coupons registered")
    coupons = fields.List(fields.Nested(Counted), required=True)


class Accepted(Schema):
    """The answer to an admitted request."""

    message = _one_of("request accepted")
    couponId, userId = _text("SPRING2025"), _text("user123")
    requestId = _text(_EXAMPLE_ID)
    status = _one_of("pending")
    pollAfterMs = _poll_after(required=True)


class RequestStatus(Schema):
    """The status of a user's request."""

    couponId, userId = _text("SPRING2025"), _text("user123")
    requestId = _text(_EXAMPLE_ID)
    status = _one_of("pending", "issued", "expired")
    pollAfterMs = _poll_after(required=False)
    issuedAt = _instant(required=False)


class Refusals(Schema):
    """Refused requests by reason."""

    duplicate, sold_out, not_open, closed = (_number(0) for _ in REFUSALS)


class Numbers(Schema):
    """The counters and the state of a coupon."""

    couponId = _text("SPRING2025")
    state = _one_of("open", "scheduled", "sold_out", "closed", "expired")
    quantity, stock, requested = _number(1000), _number(999), _number(1)
    issued, pending = _number(1), _number(0)
    registeredAt = _instant()
    opensAt, closesAt, expiresAt = (_instant(allow_none=True) for _ in range(3))
    refusals = fields.Nested(Refusals, required=True)


class Corrupt(Schema):
    """Stands in a list for a coupon whose stored data is not what the service wrote."""

    couponId, state = _text("SPRING2024"), _one_of("corrupt")


class CouponsPage(Schema):
    """A page of the list of coupons; see also Corrupt."""

    coupons = fields.List(fields.Nested(Numbers), required=True)
    next = _next()
    missingPartitions = _missing()


class Seconds(Schema):
    """Seconds from request to decision."""

    p50 = fields.Float(required=True, metadata={"example": 0.004})
    max = fields.Float(required=True, metadata={"example": 0.02})


class Recent(Schema):
    """How the newest 100 were issued."""

    issuances = _number(100)
    issuedPerSecond = fields.Float(required=True, allow_none=True, metadata={"example": 850.5})
    secondsToDecision = fields.Nested(Seconds, required=True, allow_none=True)


class Statistics(Numbers):
    """The counters and the recent issuances of a coupon."""

    recent = fields.Nested(Recent, required=True)


class CouponClosed(Schema):
    """The answer to the closing of a coupon."""

    message, couponId, closesAt = _one_of("coupon closed"), _text("SPRING2025"), _instant()


class CouponDeleted(Schema):
    """The answer to the deletion of a coupon."""

    message, couponId = _one_of("coupon deleted"), _text("SPRING2025")
    issued, refused = _number(1), _number(0)


class RequestCancelled(Schema):
    """The answer to a cancellation."""

    message = _one_of("request cancelled")
    couponId, userId = _text("SPRING2025"), _text("user123")
    requestId = _text(_EXAMPLE_ID)
    requestStatus = _one_of("issued", "pending")


class Issuance(Schema):
    """One issuance; those of other systems have no instant."""

    userId, requestId = _text("user123"), _text(_EXAMPLE_ID)
    issuedAt = _instant(required=False)


class IssuancesPage(Schema):
    """A page of the issuances of a coupon."""

    issuances = fields.List(fields.Nested(Issuance), required=True)
    next = _next()


class Held(Schema):
    """A coupon that a user holds."""

    couponId, requestId = _text("SPRING2025"), _text(_EXAMPLE_ID)
    issuedAt = _instant(required=False)


class HeldByUser(Schema):
    """All coupons that a user holds."""

    userId = _text("user123")
    coupons = fields.List(fields.Nested(Held), required=True)
    missingPartitions = _missing()


class DeadLetter(Schema):
    """An entry that could not be decided."""

    deadLetter, deadAt = _text("0:1763802767201-0"), _instant()
    entryId, reason = _text("1763802767000-0"), _text("unknown_coupon")
    fields_ = fields.Dict(required=True, data_key="fields", metadata={
        "description": "the entry, as it was read", "example": {"couponId": "SPRING2025"},
    })


class DeadLettersPage(Schema):
    """A page of the dead letters."""

    deadLetters = fields.List(fields.Nested(DeadLetter), required=True)
    next = _next()


class Retried(Schema):
    """The answer to the retry of a dead letter."""

    message = _one_of("request is on the stream again")
    deadLetter, entryId = _text("0:1763802767201-0"), _text("1763802768000-0")


class Discarded(Schema):
    """The answer to the discarding of a dead letter."""

    message = _one_of("dead letter discarded")
    deadLetter, placeReturned = _text("0:1763802767201-0"), fields.Boolean(required=True)


class Alive(Schema):
    """The process is alive."""

    status = _one_of("alive")


class Ready(Schema):
    """Redis can be used."""

    status, backlog = _one_of("ready"), _number(0)
    oldestSeconds = fields.Float(required=True, metadata={"example": 0.0})
    workers = fields.Integer(required=True, allow_none=True, metadata={"example": 2})
    missingPartitions = _missing()
