"""Converts the data of an earlier version, while the service runs.

Format 1 gave every key of a coupon a TTL and listed the coupons in a set. Format 2 has no TTLs,
lists them in a sorted set, and has the instants of their removal in another; see keys.py.
"""

import logging
from contextlib import suppress
from typing import Any

from redis import Redis
from redis.exceptions import OutOfMemoryError, RedisError

from coupon_service.config import Config
from coupon_service.errors import is_corrupt_data
from coupon_service.keys import Keys
from coupon_service.stream import pages
from coupon_service.worker_scripts import WorkerScripts

log = logging.getLogger(__name__)

#: The number of the format that this version reads and writes.
FORMAT = 2
#: Coupons whose ids are read in one round trip.
PAGE = 500


class UnusableData(Exception):
    """Raised when the data was written by a later version, or with other partitions."""


class Migration:
    """Every method raises `redis.exceptions.RedisError`; it can then be called again."""

    def __init__(
        self, client: Redis, keys: Keys, scripts: WorkerScripts, config: Config
    ) -> None:
        self._client: Any = client
        self._keys = keys
        self._scripts = scripts
        self._config = config

    def check(self) -> bool:
        """Return whether the data is of this version's format.

        Raises:
            UnusableData: it was written by a later version, or with other partitions.
        """
        self._check_partitions()
        stored = self._client.get(self._keys.format)
        if stored not in (None, str(FORMAT)):
            raise UnusableData(
                f"the data is of format {stored}, this version knows {FORMAT}: use the version "
                "that wrote it"
            )
        return stored is not None

    def record_partitions(self) -> None:
        """Let the data say how many partitions there are, where that is more than one."""
        if self._keys.prefix != self._config.key_prefix:
            self._client.set(self._keys.partitions, self._config.partitions, nx=True)

    def _check_partitions(self) -> None:
        count, prefix = self._config.partitions, self._config.key_prefix
        if self._keys.prefix == prefix:
            stored = self._client.get(Keys(f"{prefix}{{0}}:").partitions)
        elif not self._config.is_cluster and self._client.exists(
            Keys(prefix).format, Keys(prefix).coupons
        ):
            stored = "1"
        else:
            stored = self._client.get(self._keys.partitions)
        if stored not in (None, str(count)):
            raise UnusableData(
                f"the data has {stored} partitions and COUPON_PARTITIONS is {count}: set it to "
                f"{stored}, or use an empty Redis or another COUPON_KEY_PREFIX"
            )

    def run(self) -> int:
        """Convert what is of format 1; any number of processes may do so at the same time.

        Returns:
            How many coupons were converted.

        Raises:
            UnusableData: see `check`.
        """
        count, converted = 0, self.check()
        with suppress(OutOfMemoryError):
            self.record_partitions()
        if converted:
            return count
        while self._client.type(self._keys.coupons) == "set":
            for coupon_id in self._client.srandmember(self._keys.coupons, PAGE):
                self._scripts.migrate(coupon_id)
        # After a crash the coupons that have moved already are gone through again.
        after = "-"
        while ids := self._client.zrangebylex(self._keys.coupons, after, "+", 0, PAGE):
            for coupon_id in ids:
                self._scripts.migrate(coupon_id)
                try:
                    self._persist_marks(coupon_id)
                except RedisError as error:
                    if not is_corrupt_data(error):
                        raise
                    log.error("marks are not converted couponId=%s error=%s", coupon_id, error)
            count += len(ids)
            after = f"({ids[-1]}"
        with suppress(OutOfMemoryError):  # decisions need no memory; the next start sets it
            self._client.set(self._keys.format, FORMAT)
        return count

    def _persist_marks(self, coupon_id: str) -> None:
        for page in pages(self._client, self._keys.issuances(coupon_id)):
            with self._client.pipeline(transaction=False) as writes:
                for _, entry in page:
                    writes.persist(self._keys.user(coupon_id, entry.get("userId", "")))
                writes.execute()
