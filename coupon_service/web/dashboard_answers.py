"""The bodies of what the pages of administrators poll; see answers.py."""

from marshmallow import Schema, fields, validate

from coupon_service.admin.series import SPANS
from coupon_service.ledger.copier import KINDS
from coupon_service.web.admin_answers import DeadLetter, Issuance, Statistics, following
from coupon_service.web.answers import (
    Numbers,
    Queue,
    instant,
    missing_partitions,
    number,
    seconds,
    text,
)


class Overview(Schema):
    """The queue, what is live, and a page of the coupons; see also Corrupt."""

    queue = fields.Nested(Queue, required=True)
    live = fields.List(fields.Nested(Numbers), required=True, metadata={
        "description": "open coupons, the most recently active first, then others by id, on the "
                       "first page",
    })
    coupons = fields.List(fields.Nested(Numbers), required=True)
    next = following()
    missingPartitions = missing_partitions()


class Count(Schema):
    """What was issued in a span of time, cancellations taken off, and the stock at its end."""

    at, stock = instant(), number(999)
    issued = fields.Integer(required=True, metadata={"example": 1})


class Series(Schema):
    """The spans in which something changed, the earliest first."""

    spanSeconds = fields.Integer(
        required=True, validate=validate.OneOf(SPANS), metadata={"example": 1}
    )
    counts = fields.List(fields.Nested(Count), required=True)


class CouponOverview(Schema):
    """What is shown of one coupon."""

    queue = fields.Nested(Queue, required=True)
    coupon = fields.Nested(Statistics, required=True)
    series = fields.Nested(Series, required=True, allow_none=True, metadata={
        "description": "null if it cannot be read: the stored data is not what the scripts wrote",
    })
    issuances = fields.List(fields.Nested(Issuance), required=True)


class Partition(Schema):
    """The request stream of one partition; nothing else is known where it cannot be used."""

    partition, usable = number(0), fields.Boolean(required=True)
    backlog, oldestSeconds = number(0, allow_none=True), seconds(0.0, allow_none=True)
    workers = fields.List(fields.String(), required=True, allow_none=True, metadata={
        "description": "null where Redis does not tell", "example": ["web1-4711-1f0c"],
    })
    deadLetters = number(0, allow_none=True)


class Sink(Schema):
    """How far a sink of the ledger has come in a partition."""

    sink, partition = text("sql"), number(0)
    cursor, lagSeconds = text("1763802767201-0"), seconds(0.0)
    kind = fields.String(required=True, allow_none=True, validate=validate.OneOf(KINDS), metadata={
        "description": "what keeps it from copying; null if nothing does",
    })
    error = fields.String(required=True, allow_none=True)


class DecisionTimes(Schema):
    """Seconds from request to decision of the newest decisions."""

    p50, p99 = seconds(0.004), seconds(0.012)


class System(Schema):
    """What the service runs on."""

    queue = fields.Nested(Queue, required=True)
    partitions = fields.List(fields.Nested(Partition), required=True)
    deadLetters = fields.List(fields.Nested(DeadLetter), required=True)
    next = fields.String(required=True, allow_none=True, metadata={
        "description": "the `after` of the other dead letters", "example": None,
    })
    ledger = fields.List(fields.Nested(Sink), required=True)
    decisionTimes = fields.Nested(DecisionTimes, required=True, allow_none=True)
    warnings = fields.List(fields.String(), required=True, metadata={
        "description": "what the preflight warns of",
    })
