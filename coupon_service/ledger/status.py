"""What Redis knows of the sinks: how far each has come, and what keeps it from more."""

import json
from collections.abc import Iterator
from typing import Any, NamedTuple

from coupon_service.admin.scatter_gather import ask_at_once
from coupon_service.errors import corrupt_data_of
from coupon_service.installation import Installation, Partitions
from coupon_service.ledger.copier import group_of, reported
from coupon_service.snapshot import milliseconds, stream_ms


class Status(NamedTuple):
    """How far a sink has come in one partition.

    `cursor` is the id of the last line that it has reported; `lag` the age in seconds of the first
    line that it has not, 0 if there is none; `kind` is empty, or what keeps it from copying: failed
    or gone_back; `error` says more.
    """

    sink: str
    partition: int
    cursor: str
    lag: float
    kind: str
    error: str


def statuses(installation: Installation) -> Iterator[Status]:
    """Yield the status of each sink that has reported to a partition.

    Raises:
        redis.exceptions.RedisError: Redis cannot be used.
    """
    client: Any = installation.client
    keys, cursors = installation.keys, reported(installation)
    with client.pipeline(transaction=False) as reads:
        reads.time()
        reads.hgetall(keys.ledger)
        for cursor in cursors.values():
            reads.xrange(keys.log, f"({cursor}", "+", count=1)
        time, noted, *waiting = reads.execute()
    for (sink, cursor), lines in zip(cursors.items(), waiting, strict=True):
        oldest = stream_ms(lines[0][0]) if lines else milliseconds(time)
        found = json.loads(noted.get(f"error:{sink}", "{}"))
        if not isinstance(found, dict):
            raise ValueError(f"the error of {sink} is not an object")
        yield Status(
            sink, installation.partition, cursor, max(milliseconds(time) - oldest, 0) / 1000,
            found.get("kind", ""), found.get("error", ""),
        )


def all_statuses(partitions: Partitions) -> list[Status]:
    """Return the statuses in all partitions that can be used now."""
    def ask(installation: Installation) -> list[Status]:
        with corrupt_data_of("the ledger"), installation.bulkhead:
            return list(statuses(installation))

    return [each for found in ask_at_once(partitions, ask).values() for each in found or ()]


def forget(installation: Installation, sink: str) -> bool:
    """Let the log be trimmed without regard to a sink; return whether it was known."""
    client: Any = installation.client
    keys = installation.keys
    client.hdel(keys.ledger, f"error:{sink}", f"accepted:{sink}")
    return bool(client.exists(keys.log) and client.xgroup_destroy(keys.log, group_of(sink)))
