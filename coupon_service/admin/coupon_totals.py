"""The counters of many coupons: each of the active ones, and the others added up."""

from heapq import nlargest
from itertools import chain
from typing import Any, NamedTuple

from coupon_service.admin.coupon_list import CouponList
from coupon_service.admin.scatter_gather import ask_at_once, list_coupons
from coupon_service.errors import corrupt_data_of
from coupon_service.installation import Installation, Partitions
from coupon_service.snapshot import REFUSALS, stream_ms

#: Lines of the log, and waiting entries, among which the active coupons are looked for.
LINES = 1000
#: The same where the open ones are looked for, and the most coupons that may be one.
LIVE_LINES, CANDIDATES = 200, 20
#: Coupons, the first by id, among which further open ones are looked for.
FIRST = 100
#: The most coupons that are added up: more would make a read of the metrics take seconds.
MAX_OTHERS = 10_000
#: The counters that are added up.
COUNTERS = ("quantity", "stock", "issued", "pending")


class Totals(NamedTuple):
    """`registered` counts the coupons, `active` has the snapshots of some, see
    `snapshot.snapshot`. `others` has COUNTERS and refusals of all others, as a snapshot has; None
    if there are more than MAX_OTHERS."""

    registered: int
    active: list[dict[str, Any]]
    others: dict[str, Any] | None


def read_totals(partitions: Partitions, limit: int) -> Totals:
    """Read the counters of all coupons of the partitions that can be used now.

    Args:
        limit: for how many at the most the counters are given of each: of all if there are no
            more, or else of those with the newest lines in the log and the newest entries.
    """
    counts = ask_at_once(partitions, _count)
    registered = sum(filter(None, counts.values()))
    if registered <= limit:
        ids = ask_at_once(partitions, lambda each: CouponList(each).ids("", limit))
        chosen = [coupon_id for its in ids.values() for coupon_id in its or ()]
    else:
        chosen = _active(partitions, limit, LINES)
    grouped = partitions.by_installation(chosen)
    active = [each for each in _snapshots(partitions, grouped) if each["state"] != "corrupt"]
    if registered - len(active) > MAX_OTHERS:
        return Totals(registered, active, None)
    added = ask_at_once(partitions, lambda each: _add_up(each, set(grouped.get(each, []))))
    return Totals(registered, active, _sum([each for each in added.values() if each]))


def read_live(partitions: Partitions, limit: int) -> list[dict[str, Any]]:
    """Return the snapshots of up to `limit` open coupons, the most recently active first, then
    others by id.

    They are looked for among the newest lines and entries, and then among the FIRST coupons, so
    that it costs no more where there are many: of more, one that nobody asks for is not found, and
    one that is asked for much less than another now and then not.
    """
    chosen = _active(partitions, CANDIDATES, LIVE_LINES)
    shown = {
        each["couponId"]: each
        for each in _snapshots(partitions, partitions.by_installation(chosen))
        if each["state"] == "open"
    }
    live = [shown[coupon_id] for coupon_id in chosen if coupon_id in shown][:limit]
    if len(live) < limit:
        others = list_coupons(partitions, FIRST)[0]
        live += [each for each in others
                 if each["state"] == "open" and each["couponId"] not in shown]
    return live[:limit]


def _active(partitions: Partitions, limit: int, lines: int) -> list[str]:
    """Return the ids of up to `limit` coupons, the most recently active first, of those in the
    newest lines of the log and the newest entries, `lines` of each over all partitions."""
    share = -(-lines // partitions.config.partitions)
    activity = ask_at_once(partitions, lambda each: _activity(each, share))
    newest = {coupon: at for its in activity.values() for coupon, at in (its or {}).items()}
    return nlargest(limit, newest, key=newest.__getitem__)


def _snapshots(
    partitions: Partitions, grouped: dict[Installation, list[str]]
) -> list[dict[str, Any]]:
    read = ask_at_once(
        partitions, lambda each: CouponList(each).snapshots(grouped.get(each, []))
    )
    return [each for its in read.values() for each in its or ()]


def _count(installation: Installation) -> int:
    with corrupt_data_of("the list of coupons"), installation.bulkhead:
        return int(installation.client.zcard(installation.keys.coupons))


def _activity(installation: Installation, lines: int) -> dict[str, int]:
    """Return the instant (ms since 1970) of the newest line or entry of each coupon in these, if it
    is registered."""
    client: Any = installation.client
    keys = installation.keys
    newest: dict[str, int] = {}
    with corrupt_data_of("the log"), installation.bulkhead:
        with client.pipeline(transaction=False) as reads:
            for stream in (keys.log, keys.requests):
                reads.xrevrange(stream, count=lines)
            for line_id, line in chain.from_iterable(reads.execute()):
                coupon_id = line.get("couponId", "")
                newest[coupon_id] = max(newest.get(coupon_id, 0), stream_ms(line_id))
        scores = client.zmscore(keys.coupons, list(newest)) if newest else []
    found = zip(newest.items(), scores, strict=True)
    return dict(pair for pair, score in found if score is not None)


def _add_up(installation: Installation, without: set[str]) -> dict[str, Any]:
    coupons = CouponList(installation)
    return _sum([
        _sum([each for each in coupons.snapshots(sorted({*page} - without))
              if each["state"] != "corrupt"])
        for page in coupons.id_pages()
    ])


def _sum(parts: list[dict[str, Any]]) -> dict[str, Any]:
    return {name: sum(part[name] for part in parts) for name in COUNTERS} | {
        "refusals": {
            reason: sum(part["refusals"][reason] for part in parts) for reason in REFUSALS
        },
    }
