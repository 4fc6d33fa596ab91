"""How what was issued of a coupon, and its stock, changed over time."""

import logging
import re
from typing import Any

from coupon_service.errors import CorruptData, corrupt_data_of
from coupon_service.installation import Installation
from coupon_service.snapshot import instant

log = logging.getLogger(__name__)

#: The spans (s) of the archives that the scripts keep, see `Keys.series`, and the slots of each.
SPANS, SLOTS = (1, 60, 3600), 240
_SLOT = re.compile(r"(\d{1,15}) (-?\d{1,15}) (-?\d{1,15})")


def read_series(installation: Installation, coupon_id: str) -> dict[str, Any] | None:
    """Read what was counted of a coupon over time.

    The finest archive is taken whose counts add up to all that was issued: that of a flash sale
    keeps its seconds, because only newer counts overwrite them. Where none has all, it is the
    coarsest, which then begins with the first count that it has.

    Returns:
        spanSeconds, 1, 60 or 3600; and counts, for each span in which something changed, the
        earliest first: at (RFC 3339, its start), issued (cancellations taken off) and stock at its
        end, counted back from now. They are empty for a coupon that is not registered. None if the
        stored data is not what the scripts wrote: it is a picture, and stops nothing else.

    Raises:
        Unavailable: Redis cannot be used now.
    """
    try:
        return _read(installation, coupon_id)
    except CorruptData as error:
        log.error("corrupt series couponId=%s error=%s", coupon_id, error.__cause__)
        return None


def _read(installation: Installation, coupon_id: str) -> dict[str, Any]:
    client: Any = installation.client
    keys = installation.keys
    with corrupt_data_of(coupon_id), installation.bulkhead:
        with client.pipeline(transaction=True) as reads:
            reads.hget(keys.coupon(coupon_id), "quantity")
            reads.get(keys.stock(coupon_id))
            reads.hgetall(keys.series(coupon_id))
            reads.time()
            quantity, stock, slots, time = reads.execute()
        left = int(stock or 0)
        for span in SPANS:
            counts = _archive(span, slots, time[0])
            if sum(issued for _, issued, _ in counts) == int(quantity or 0) - left:
                break
        return {"spanSeconds": span, "counts": _with_stock(counts, left)}


def _archive(span: int, slots: dict[str, str], now: int) -> list[tuple[int, int, int]]:
    """The start (s), issued and added of the newest SLOTS spans up to now, as far as they were
    counted. What was counted while the clock was ahead would hide all that was counted since."""
    found = []
    for field, slot in slots.items():
        count = _SLOT.fullmatch(slot)
        if not count:
            raise ValueError(f"{field} is {slot!r}")
        if field.startswith(f"{span}:") and int(count[1]) <= now:
            found.append((int(count[1]), int(count[2]), int(count[3])))
    newest = max((start for start, _, _ in found), default=0)
    return sorted(count for count in found if count[0] > newest - SLOTS * span)


def _with_stock(counts: list[tuple[int, int, int]], stock: int) -> list[dict[str, Any]]:
    shown = []
    for start, issued, added in reversed(counts):
        shown.append({"at": instant(start * 1000), "issued": issued, "stock": stock})
        stock += issued - added
    return shown[::-1]
