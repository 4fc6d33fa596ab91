"""The bodies of answers, for the OpenAPI document alone: nothing is made or checked by them.

Here are those of users and of health; admin_answers.py and dashboard_answers.py have the others.
"""

from typing import Any

from marshmallow import Schema, fields, validate

from coupon_service.poll_after import LONGEST_MS, SHORTEST_MS
from coupon_service.snapshot import REFUSALS

#: Examples.
REQUEST_ID, WHEN = "Ypt3W_dpzV3L", "2026-11-22T09:12:47.201Z"


def text(example: str = "", **options: Any) -> fields.String:
    """A text, with an example."""
    return fields.String(required=True, metadata={"example": example}, **options)


def number(example: int = 1, **options: Any) -> fields.Integer:
    """A whole number of 0 or more."""
    return fields.Integer(
        required=True, validate=validate.Range(min=0), metadata={"example": example}, **options
    )


def instant(required: bool = True, **options: Any) -> fields.AwareDateTime:
    """An instant, RFC 3339."""
    return fields.AwareDateTime(required=required, metadata={"example": WHEN}, **options)


def seconds(example: float = 0.004, **options: Any) -> fields.Float:
    """A number of seconds."""
    return fields.Float(
        required=True, validate=validate.Range(min=0), metadata={"example": example}, **options
    )


def one_of(*values: str) -> fields.String:
    """One of some words."""
    return fields.String(
        required=True, validate=validate.OneOf(values), metadata={"example": values[0]}
    )


def poll_after(required: bool) -> fields.Integer:
    """When to ask again."""
    return fields.Integer(
        required=required, validate=validate.Range(SHORTEST_MS, LONGEST_MS), metadata={
            "description": "milliseconds after which to ask for the status (again)", "example": 50,
        },
    )


def missing_partitions() -> "fields.List[Any]":
    """What is missing of an answer that concerns many coupons."""
    return fields.List(fields.Integer(), metadata={
        "description": "numbers of the partitions that cannot be used now", "example": [3],
    })


class Counted(Schema):
    """What a registration leaves."""

    couponId = text("SPRING2025")
    quantity, stock, requested = number(1000), number(1000), number(0)


class Registered(Counted):
    """The answer to the registration of one coupon."""

    message = one_of("coupon registered")


class RegisteredMany(Schema):
    """The answer to the registration of a list."""

    message = one_of("coupons registered")
    coupons = fields.List(fields.Nested(Counted), required=True)


class Accepted(Schema):
    """The answer to an admitted request."""

    message = one_of("request accepted")
    couponId, userId = text("SPRING2025"), text("user123")
    requestId = text(REQUEST_ID)
    status = one_of("pending")
    pollAfterMs = poll_after(required=True)


class RequestStatus(Schema):
    """The status of a user's request."""

    couponId, userId = text("SPRING2025"), text("user123")
    requestId = text(REQUEST_ID)
    status = one_of("pending", "issued", "expired")
    pollAfterMs = poll_after(required=False)
    issuedAt = instant(required=False)


class Refusals(Schema):
    """Refused requests by reason."""

    duplicate, sold_out, not_open, closed = (number(0) for _ in REFUSALS)


class Numbers(Schema):
    """The counters and the state of a coupon."""

    couponId = text("SPRING2025")
    state = one_of("open", "scheduled", "sold_out", "closed", "expired")
    quantity, stock, requested = number(1000), number(999), number(1)
    issued, pending = number(1), number(0)
    registeredAt = instant()
    opensAt, closesAt, expiresAt = (instant(allow_none=True) for _ in range(3))
    refusals = fields.Nested(Refusals, required=True)


class Alive(Schema):
    """The process is alive."""

    status = one_of("alive")


class Queue(Schema):
    """The request streams of all partitions."""

    backlog, oldestSeconds = number(0), seconds(0.0)
    workers = number(2, allow_none=True)
    missingPartitions = missing_partitions()


class Ready(Queue):
    """Redis can be used."""

    status = one_of("ready")
