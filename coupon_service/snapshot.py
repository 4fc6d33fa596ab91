"""The counters and the state of a coupon, as one read of Redis shows them."""

from datetime import datetime, timedelta
from typing import Any

from redis.client import Pipeline
from redis.exceptions import ResponseError

from coupon_service.keys import Keys
from coupon_service.scripts import WINDOW

#: Reasons for which a request can be refused; each is a counter in the coupon's hash.
REFUSALS = ("duplicate", "sold_out", "not_open", "closed")
_EPOCH = datetime(1970, 1, 1)
#: Replies that `queue_reads` queues for one coupon.
READS = 4


def queue_reads(pipeline: Pipeline, keys: Keys, coupon_id: str) -> None:
    """Queue what `snapshot` needs to know of a coupon."""
    pipeline.hgetall(keys.coupon(coupon_id))
    pipeline.get(keys.stock(coupon_id))
    pipeline.get(keys.requested(coupon_id))
    pipeline.hlen(keys.pending(coupon_id))


def snapshot(coupon_id: str, replies: list[Any], now_ms: int) -> dict[str, Any] | None:
    """Make the snapshot of a coupon from the replies to `queue_reads` at the instant `now_ms`.

    Returns:
        couponId, state, quantity, stock, requested, issued, pending, registeredAt, opensAt,
        closesAt and expiresAt (RFC 3339 or None), and refusals by reason; None if the coupon is
        not registered.

    Raises:
        LookupError, OverflowError, TypeError, ValueError, redis.exceptions.ResponseError: the
            replies do not show what the scripts wrote; see `errors.corrupt_data_of`.
    """
    for reply in replies:
        if isinstance(reply, ResponseError):
            raise reply
    coupon, stock, requested, pending = replies
    if not coupon or "deletedAt" in coupon:
        return None
    quantity = int(coupon["quantity"])
    return {
        "couponId": coupon_id,
        "state": state(coupon, int(requested), now_ms),
        "quantity": quantity,
        "stock": int(stock),
        "requested": int(requested),
        "issued": quantity - int(stock),
        "pending": pending,
        "registeredAt": instant(coupon["registeredAt"]),
        **{name: instant(coupon[name]) if name in coupon else None for name in WINDOW},
        "refusals": {reason: int(coupon.get(reason, 0)) for reason in REFUSALS},
    }


def state(coupon: dict[str, str], requested: int, now_ms: int) -> str:
    """Return what a new user would meet: scheduled, open, sold_out, closed or expired."""
    if "expiresAt" in coupon and now_ms >= int(coupon["expiresAt"]):
        return "expired"
    if "closesAt" in coupon and now_ms >= int(coupon["closesAt"]):
        return "closed"
    if "opensAt" in coupon and now_ms < int(coupon["opensAt"]):
        return "scheduled"
    return "sold_out" if requested >= int(coupon["quantity"]) else "open"


def milliseconds(time_reply: tuple[int, int]) -> int:
    """Milliseconds since 1970 from the reply to TIME."""
    return time_reply[0] * 1000 + time_reply[1] // 1000


def instant(ms: str | int) -> str:
    """RFC 3339 of an instant given in milliseconds since 1970."""
    moment = _EPOCH + timedelta(milliseconds=int(ms))
    return moment.isoformat(timespec="milliseconds") + "Z"


def stream_ms(stream_id: str) -> int:
    """The instant (ms since 1970) at which an entry was added: its id begins with it."""
    return int(stream_id.partition("-")[0])


def issuance(mark: str) -> dict[str, Any]:
    """requestId and issuedAt (RFC 3339) of an issuance mark.

    The mark ends with the id of a line in the log. Marks of other systems have none, and so no
    issuedAt.
    """
    request_id, _, log_id = mark.partition(" ")
    try:
        return {"requestId": request_id, "issuedAt": instant(stream_ms(log_id))}
    except (ValueError, OverflowError):
        return {"requestId": request_id}
