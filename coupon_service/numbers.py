"""The numbers and the state of a coupon, as one look at Redis shows them."""

from datetime import UTC, datetime
from typing import Any

from redis.client import Pipeline

from coupon_service.keys import Keys

#: Reasons for which a request can be refused; each is a counter in the coupon's hash.
REFUSALS = ("duplicate", "sold_out", "not_open", "closed")
WINDOW = ("opensAt", "closesAt", "expiresAt")
#: Replies that `look` queues for one coupon.
LOOKS = 4


def look(snapshot: Pipeline, keys: Keys, coupon_id: str) -> None:
    """Queue what `numbers` needs to know of a coupon."""
    snapshot.hgetall(keys.coupon(coupon_id))
    snapshot.get(keys.stock(coupon_id))
    snapshot.get(keys.requested(coupon_id))
    snapshot.hlen(keys.pending(coupon_id))


def numbers(coupon_id: str, replies: list[Any], now_ms: int) -> dict[str, Any] | None:
    """Make the numbers of a coupon from the replies to `look` at the instant `now_ms`.

    Returns:
        couponId, state, quantity, stock, requested, issued, pending, registeredAt, opensAt,
        closesAt and expiresAt (RFC 3339 or None), and refusals by reason; None if the coupon is
        not registered.
    """
    coupon, stock, requested, pending = replies
    if not coupon:
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


def recent(lines: list[tuple[str, dict[str, str]]]) -> dict[str, Any]:
    """Make statistics of lines of the log that tell of issuances, the newest first.

    Ids of stream entries begin with the time in ms: that of the line is the decision's, that of
    the entry is the request's.
    """
    decided = [_ms(log_id) for log_id, _ in lines]
    waits = sorted((_ms(log_id) - _ms(line["entryId"])) / 1000 for log_id, line in lines)
    span = (decided[0] - decided[-1]) / 1000 if decided else 0
    return {
        "issuances": len(lines),
        "issuedPerSecond": round((len(lines) - 1) / span, 3) if span else None,
        "secondsToDecision": {"p50": waits[len(waits) // 2], "max": waits[-1]} if waits else None,
    }


def _ms(stream_id: str) -> int:
    return int(stream_id.partition("-")[0])


def state(coupon: dict[str, str], requested: int, now_ms: int) -> str:
    """Say what a new user would meet: scheduled, open, sold_out, closed or expired."""
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
    text = datetime.fromtimestamp(int(ms) / 1000, UTC).isoformat(timespec="milliseconds")
    return text.replace("+00:00", "Z")


def issuance(mark: str) -> dict[str, Any]:
    """requestId and issuedAt (RFC 3339) as an issuance mark tells them.

    The mark ends with the id of a stream entry, and that begins with the time in ms. Marks of
    other systems have none, and so no issuedAt.
    """
    request_id, _, log_id = mark.partition(" ")
    issued_at = {"issuedAt": instant(log_id.partition("-")[0])} if log_id else {}
    return {"requestId": request_id, **issued_at}
