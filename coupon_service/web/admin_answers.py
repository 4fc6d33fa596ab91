"""The bodies of answers to administrators; see answers.py."""

from marshmallow import Schema, fields

from coupon_service.web.answers import (
    REQUEST_ID,
    Numbers,
    instant,
    missing_partitions,
    number,
    one_of,
    seconds,
    text,
)


def following() -> fields.String:
    """Where the next page begins."""
    return fields.String(required=True, allow_none=True, metadata={
        "description": "where the next page begins; null at the end", "example": None,
    })


class Corrupt(Schema):
    """Stands in a list for a coupon whose stored data is not what the service wrote."""

    couponId, state = text("SPRING2024"), one_of("corrupt")


class CouponsPage(Schema):
    """A page of the list of coupons; see also Corrupt."""

    coupons = fields.List(fields.Nested(Numbers), required=True)
    next = following()
    missingPartitions = missing_partitions()


class Seconds(Schema):
    """Seconds from request to decision."""

    p50, p99, max = seconds(0.004), seconds(0.012), seconds(0.02)


class Recent(Schema):
    """How the newest 100 were issued."""

    issuances = number(100)
    issuedPerSecond = fields.Float(required=True, allow_none=True, metadata={"example": 850.5})
    secondsToDecision = fields.Nested(Seconds, required=True, allow_none=True)


class Statistics(Numbers):
    """The counters and the recent issuances of a coupon."""

    recent = fields.Nested(Recent, required=True)


class CouponClosed(Schema):
    """The answer to the closing of a coupon."""

    message, couponId, closesAt = one_of("coupon closed"), text("SPRING2025"), instant()


class CouponDeleted(Schema):
    """The answer to the deletion of a coupon."""

    message, couponId = one_of("coupon deleted"), text("SPRING2025")
    issued, refused = number(1), number(0)


class RequestCancelled(Schema):
    """The answer to a cancellation."""

    message = one_of("request cancelled")
    couponId, userId = text("SPRING2025"), text("user123")
    requestId = text(REQUEST_ID)
    requestStatus = one_of("issued", "pending")


class Issuance(Schema):
    """One issuance; those of other systems have no instant."""

    userId, requestId = text("user123"), text(REQUEST_ID)
    issuedAt = instant(required=False)


class IssuancesPage(Schema):
    """A page of the issuances of a coupon."""

    issuances = fields.List(fields.Nested(Issuance), required=True)
    next = following()


class Held(Schema):
    """A coupon that a user holds."""

    couponId, requestId = text("SPRING2025"), text(REQUEST_ID)
    issuedAt = instant(required=False)


class HeldByUser(Schema):
    """All coupons that a user holds."""

    userId = text("user123")
    coupons = fields.List(fields.Nested(Held), required=True)
    missingPartitions = missing_partitions()


class DeadLetter(Schema):
    """An entry that could not be decided."""

    deadLetter, deadAt = text("0:1763802767201-0"), instant(allow_none=True)
    entryId = text("1763802767000-0")
    reason = fields.String(required=True, metadata={
        "description": "corrupt_data where the dead letter is broken itself; what can be read of "
                       "it is given, and it can be discarded",
        "example": "unknown_coupon",
    })
    fields_ = fields.Dict(required=True, data_key="fields", metadata={
        "description": "the entry, as it was read", "example": {"couponId": "SPRING2025"},
    })


class DeadLettersPage(Schema):
    """A page of the dead letters."""

    deadLetters = fields.List(fields.Nested(DeadLetter), required=True)
    next = following()


class Retried(Schema):
    """The answer to the retry of a dead letter."""

    message = one_of("request is on the stream again")
    deadLetter, entryId = text("0:1763802767201-0"), text("1763802768000-0")


class Discarded(Schema):
    """The answer to the discarding of a dead letter."""

    message = one_of("dead letter discarded")
    deadLetter, placeReturned = text("0:1763802767201-0"), fields.Boolean(required=True)
