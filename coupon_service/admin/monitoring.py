"""What an operator watches of the request streams: who waits, for how long, and for whom."""

import logging
from typing import Any, NamedTuple

from redis.exceptions import RedisError

from coupon_service.admin.scatter_gather import ask_at_once
from coupon_service.errors import Unavailable, corrupt_data_of
from coupon_service.installation import Installation, Partitions
from coupon_service.keys import GROUP
from coupon_service.snapshot import milliseconds, stream_ms

log = logging.getLogger(__name__)

#: Milliseconds since its last command after which a worker does not count as there. One that
#: waits for entries sends a command twice a second.
SEEN_WITHIN_MS = 10_000
#: Seconds after which an entry that no worker has taken waits in vain: one that is there reads it
#: at once, also where Redis does not tell of its commands.
UNATTENDED_AFTER = 5.0
#: Seconds after which a client may ask again whether the service is ready.
READY_AFTER = 1


class Queue(NamedTuple):
    """The request stream of one partition.

    `backlog` counts the entries that wait for a decision, `oldest_seconds` is the age of the
    oldest, 0 if there is none; `workers` names the consumers seen, None if Redis does not tell;
    `dead_letters` counts them, None if their stream is none.
    """

    backlog: int
    oldest_seconds: float
    workers: frozenset[str] | None
    dead_letters: int | None

    @property
    def unattended(self) -> bool:
        """Whether entries wait and no worker is there."""
        return self.oldest_seconds >= UNATTENDED_AFTER and self.workers == frozenset()


class Monitoring:
    """Reads the queues of all partitions, and logs once in each process when one is unattended,
    and once when that is over."""

    def __init__(self, partitions: Partitions) -> None:
        self._partitions = partitions
        self._unattended = set[Installation]()

    def queues(self) -> dict[Installation, Queue | None]:
        """Return the queue of each partition, None of one that cannot be used now."""
        queues = ask_at_once(self._partitions, read_queue)
        for installation, queue in queues.items():
            if queue:
                self._note(installation, queue)
        return queues

    def readiness(self) -> dict[str, Any]:
        """Return what `readiness` makes of the queues as they are now; raises what it does."""
        return readiness(self.queues())

    def _note(self, installation: Installation, queue: Queue) -> None:
        if queue.unattended == (installation in self._unattended):
            return
        if queue.unattended:
            self._unattended.add(installation)
            log.error("entries wait and no worker is there backlog=%d oldest=%.1f s%s",
                      queue.backlog, queue.oldest_seconds, installation.label)
        else:
            self._unattended.discard(installation)
            log.warning("entries are decided again backlog=%d%s", queue.backlog, installation.label)


def readiness(queues: dict[Installation, Queue | None]) -> dict[str, Any]:
    """Return backlog, oldestSeconds and workers over all partitions that can be used, and the
    numbers of the others as missingPartitions, if there are any.

    Raises:
        Unavailable: no partition can be used.
    """
    usable = [queue for queue in queues.values() if queue]
    if not usable:
        raise Unavailable("redis cannot be used at the moment", READY_AFTER)
    seen = [queue.workers for queue in usable if queue.workers is not None]
    missing = [each.partition for each, queue in queues.items() if not queue]
    return {
        "backlog": sum(queue.backlog for queue in usable),
        "oldestSeconds": max(queue.oldest_seconds for queue in usable),
        "workers": len(frozenset().union(*seen)) if seen else None,
        **({"missingPartitions": missing} if missing else {}),
    }


def read_queue(installation: Installation) -> Queue:
    """Read the queue of a partition in one round trip.

    Raises:
        Unavailable: Redis cannot be used now.
        Misconfigured, CorruptData: it cannot be used until somebody has repaired it.
    """
    keys, client = installation.keys, installation.client
    with corrupt_data_of("the request stream"), installation.bulkhead:
        with client.pipeline(transaction=False) as reads:
            reads.time()
            reads.xlen(keys.requests)
            reads.xrange(keys.requests, count=1)
            reads.xlen(keys.dead)
            reads.xinfo_consumers(keys.requests, GROUP)
            *needed, dead, consumers = reads.execute(raise_on_error=False)
        for reply in needed:
            if isinstance(reply, RedisError):
                raise reply
        time, backlog, oldest = needed
        age = milliseconds(time) - stream_ms(oldest[0][0]) if oldest else 0
    return Queue(
        backlog, max(0, age) / 1000, _seen(consumers), dead if isinstance(dead, int) else None
    )


def _seen(consumers: list[dict[str, Any]] | RedisError) -> frozenset[str] | None:
    if isinstance(consumers, RedisError):
        # The first worker makes the stream and its group.
        none_yet = "NOGROUP" in str(consumers) or "no such key" in str(consumers)
        return frozenset() if none_yet else None
    return frozenset(each["name"] for each in consumers if each["idle"] <= SEEN_WITHIN_MS)
