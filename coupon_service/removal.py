"""Removes what is due, a page at a time: coupons that were deleted, or expired long enough ago."""

import logging
import time
from itertools import islice
from typing import Any

from redis import Redis
from redis.exceptions import RedisError

from coupon_service.errors import is_corrupt_data
from coupon_service.keys import Keys
from coupon_service.worker_scripts import WorkerScripts

log = logging.getLogger(__name__)

#: Pending requests, and issuances, that one page removes: while it does, Redis does nothing else.
PAGE = 500
#: Seconds after which the removal of a coupon whose data is corrupt is tried again.
RETRY_EVERY = 60.0


class Removal:
    """Removes coupons page by page; any number of processes may do so at the same time.

    Every method raises `redis.exceptions.RedisError`. What was removed before stays removed, and
    the next call of any process goes on.
    """

    def __init__(self, client: Redis, keys: Keys, scripts: WorkerScripts) -> None:
        self._client: Any = client
        self._keys = keys
        self._scripts = scripts
        #: By couponId: where the pass over the pending requests goes on.
        self._cursors: dict[str, int] = {}
        #: By couponId: when a removal that corrupt data has ended is tried again (monotonic).
        self._retry_at: dict[str, float] = {}

    def next_due(self) -> str | None:
        """Return the id of the coupon that has been due for longest, or None."""
        now = time.monotonic()
        self._retry_at = {each: at for each, at in self._retry_at.items() if at > now}
        with self._client.pipeline(transaction=False) as reads:
            reads.time()
            reads.zrange(self._keys.removals, 0, len(self._retry_at), withscores=True)
            (seconds, microseconds), earliest = reads.execute(raise_on_error=False)
        if isinstance(earliest, RedisError):
            if not is_corrupt_data(earliest):
                raise earliest
            log.error("nothing is removed error=%s", earliest)
            return None
        for coupon_id, due_at in earliest:
            if coupon_id not in self._retry_at and due_at <= seconds * 1000 + microseconds // 1000:
                return str(coupon_id)
        return None

    def remove_page(self, coupon_id: str) -> bool:
        """Remove a page of a coupon if it is due.

        Returns:
            Whether something of it is left to remove.
        """
        try:
            status = self._remove_page(coupon_id)
        except RedisError as error:
            if not is_corrupt_data(error):
                raise
            log.error("removal fails couponId=%s error=%s", coupon_id, error)
            self._retry_at[coupon_id] = time.monotonic() + RETRY_EVERY
            status = "corrupt"
        if status != "removing":
            self._cursors.pop(coupon_id, None)
        if status == "removed":
            log.info("removed couponId=%s", coupon_id)
        return status == "removing"

    def _remove_page(self, coupon_id: str) -> str:
        keys, cursor = self._keys, self._cursors.get(coupon_id, 0)
        with self._client.pipeline(transaction=False) as reads:
            reads.hscan(keys.pending(coupon_id), cursor, count=PAGE)
            reads.xrange(keys.issuances(coupon_id), count=PAGE)
            (cursor, pending), entries = reads.execute()
        self._cursors[coupon_id] = cursor
        # A hash of a compact encoding is read whole; what is left out is read once more.
        pending = dict(islice(pending.items(), PAGE))
        issued = [(line, entry.get("userId", "")) for line, entry in entries]
        return self._scripts.remove(coupon_id, pending, issued)
