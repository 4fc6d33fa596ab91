"""The coupons of one partition: which there are, their counters, and who has what of them."""

import logging
from collections.abc import Iterator
from typing import Any

from redis.exceptions import RedisError, ResponseError

from coupon_service.errors import CorruptData, Unavailable, corrupt_data_of, is_corrupt_data
from coupon_service.installation import Installation
from coupon_service.snapshot import READS, issuance, milliseconds, queue_reads, snapshot

log = logging.getLogger(__name__)

#: Coupons that are read in one round trip.
PAGE = 500


class CouponList:
    """Every method raises `Unavailable` when Redis cannot be used now."""

    def __init__(self, installation: Installation) -> None:
        self._client: Any = installation.client
        self._keys = installation.keys
        self._bulkhead = installation.bulkhead

    def id_pages(self) -> Iterator[list[str]]:
        """Yield the ids of all registered coupons in their order, a page at a time."""
        after = ""
        while page := self.ids(after, PAGE):
            yield page
            after = page[-1]

    def ids(self, after: str, limit: int, prefix: str = "") -> list[str]:
        """List the ids of up to `limit` registered coupons that come after `after` and begin with
        `prefix`, in order."""
        start = f"({after}" if after and after >= prefix else f"[{prefix}"
        end = f"({prefix}\x7f" if prefix else "+"  # above every character of an id
        with self._bulkhead:
            try:
                ids: list[str] = self._client.zrangebylex(self._keys.coupons, start, end, 0, limit)
            except ResponseError as error:
                if not str(error).startswith("WRONGTYPE"):
                    raise
                raise Unavailable("a worker is still converting the data", 1) from error
        return ids

    def snapshots(self, ids: list[str]) -> list[dict[str, Any]]:
        """Read the counters of many coupons.

        Returns:
            What `snapshot.snapshot` returns of each that is registered, in the order of the ids, or
            couponId and the state "corrupt" of one whose stored data is not what the scripts wrote.
        """
        with self._bulkhead, self._client.pipeline(transaction=False) as reads:
            for coupon_id in ids:
                queue_reads(reads, self._keys, coupon_id)
            reads.time()
            *replies, time = _unless_corrupt(reads.execute(raise_on_error=False))
        shown = []
        for row, coupon_id in enumerate(ids):
            try:
                with corrupt_data_of(coupon_id):
                    its = replies[READS * row:][:READS]
                    shown.append(snapshot(coupon_id, its, milliseconds(time)))
            except CorruptData as error:
                log.error("corrupt data couponId=%s error=%s", coupon_id, error.__cause__)
                shown.append({"couponId": coupon_id, "state": "corrupt"})
        return [each for each in shown if each]

    def held_by(self, user_id: str) -> list[dict[str, Any]]:
        """List what a user holds, of the coupons that are registered.

        Returns:
            couponId, requestId and issuedAt (RFC 3339) of each, by couponId.
        """
        held = []
        for ids in self.id_pages():
            with self._bulkhead, self._client.pipeline(transaction=False) as reads:
                reads.mget([self._keys.user(coupon_id, user_id) for coupon_id in ids])
                for coupon_id in ids:
                    reads.hexists(self._keys.coupon(coupon_id), "deletedAt")
                marks, *deleted = _unless_corrupt(reads.execute(raise_on_error=False))
            for coupon_id, mark, gone in zip(ids, marks, deleted, strict=True):
                if mark and gone is not True:
                    held.append({"couponId": coupon_id, **issuance(mark)})
        return held


def _unless_corrupt(replies: list[Any]) -> list[Any]:
    """Return the replies; raise the first error that is not of corrupt data."""
    for reply in replies:
        if isinstance(reply, RedisError) and not is_corrupt_data(reply):
            raise reply
    return replies
