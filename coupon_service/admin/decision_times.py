"""How long the decisions took, from the request's entry to the line in the log: a histogram.

It is kept in Redis beside the log: a read of the metrics adds the lines that are new since the
last one, whichever process made that, so that every process shows the same counts, none of them
ever falls but with the data, and neither the worker nor its scripts take part.
"""

import re
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from itertools import chain
from typing import Any, NamedTuple

from redis.exceptions import ResponseError

from coupon_service.admin.operations import quantiles
from coupon_service.admin.scatter_gather import ask_at_once
from coupon_service.admin.scripts import AdminScripts
from coupon_service.errors import corrupt_data_of
from coupon_service.installation import Installation, Partitions
from coupon_service.snapshot import stream_ms

#: Upper bounds (ms) of the times that are counted together.
BOUNDS_MS = (5, 10, 25, 50, 100, 250, 500, 1000, 2500, 5000, 10_000, 30_000, 60_000, 300_000)
#: The time since the last read is cut into so many parts, and of each so many lines are counted,
#: so that a read costs no more after a rush.
PARTS, LINES = 10, 500
#: Newest lines of all logs from which the present times are told.
NEWEST = 200
#: What issue.lua can decide; the other lines of the log are of administrators.
_IS_ID = re.compile(r"\d{1,15}-\d+")
_DECISIONS = ("issued", "duplicate", "sold_out", "unknown_coupon")
#: Fields of the hash beside those of the bounds.
_ABOVE, _SUM_MS, _UP_TO = "above", "sum_ms", "up_to"
_FIELDS = (*map(str, BOUNDS_MS), _ABOVE)


class DecisionTimes(NamedTuple):
    """How many decisions took up to each of BOUNDS_MS and not up to the one before, then those
    above the last; and the sum in seconds."""

    counts: list[int]
    seconds: float


def observe(installation: Installation) -> DecisionTimes:
    """Count what was decided in a partition since the last call of any process.

    Up to LINES in each of PARTS of that time are counted; of more decisions, a sample. What Redis
    refuses to write (it is out of memory, or the user may not) is counted by a later call.

    Raises:
        Unavailable: Redis cannot be used now.
        Misconfigured, CorruptData: it cannot be used until somebody has repaired it.
    """
    client: Any = installation.client
    key, log = installation.keys.decision_times, installation.keys.log
    with corrupt_data_of("the decision times"), installation.bulkhead:
        with suppress(ResponseError):
            after, newest = client.hget(key, _UP_TO), client.xrevrange(log, count=1)
            if newest and newest[0][0] != after:
                counted = _count(client, log, after, newest[0][0])
                AdminScripts(installation.scripts).observe(after, newest[0][0], counted)
        stored = client.hgetall(key)
        return DecisionTimes(
            [int(stored.get(field, 0)) for field in _FIELDS], int(stored.get(_SUM_MS, 0)) / 1000
        )


def read_recent(partitions: Partitions) -> dict[str, float] | None:
    """Return p50 and p99 (s) of the newest decisions of the partitions that can be used; None if
    there are none."""
    share = -(-NEWEST // partitions.config.partitions)

    def newest(installation: Installation) -> list[int]:
        with corrupt_data_of("the log"), installation.bulkhead:
            client: Any = installation.client
            return list(_times(client.xrevrange(installation.keys.log, count=share)))

    read = ask_at_once(partitions, newest).values()
    seconds = sorted(took / 1000 for took in chain.from_iterable(filter(None, read)))
    return quantiles(seconds) if seconds else None


def _count(reads: Any, log: str, after: str | None, last: str) -> Counter[str]:
    """Count lines of the log from the id `after` (not itself; None: the first) up to `last`."""
    begin = stream_ms(after or reads.xrange(log, count=1)[0][0])
    length = max((stream_ms(last) - begin) // PARTS + 1, 1)
    cuts = range(begin + length, stream_ms(last) + 1, length)
    starts = [f"({after}" if after else "-", *(f"{cut}-0" for cut in cuts)]
    ends = [*(f"({cut}-0" for cut in cuts), last]
    counted = Counter[str]()
    for start, end in zip(starts, ends, strict=True):
        for took in _times(reads.xrange(log, start, end, count=LINES)):
            counted[_FIELDS[bisect_left(BOUNDS_MS, took)]] += 1
            counted[_SUM_MS] += took
    return counted


def _times(lines: list[tuple[str, dict[str, str]]]) -> Iterator[int]:
    """Yield how long (ms) each decision took of those in the lines."""
    for line_id, line in lines:
        # Without an entry it is of another producer, or of a mark that named none.
        if line.get("decision") in _DECISIONS and _IS_ID.fullmatch(line.get("entryId", "")):
            yield max(0, stream_ms(line_id) - stream_ms(line["entryId"]))
