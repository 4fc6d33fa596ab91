"""The request stream as one consumer of the group sees it, and what all streams have in common."""

from collections.abc import Iterator
from typing import Any, NamedTuple

from redis import Redis
from redis.exceptions import ResponseError

from coupon_service.keys import GROUP, Keys

#: Milliseconds of silence after which a consumer that holds nothing is removed.
REMOVE_AFTER_MS = 3_600_000
#: Entries that are read in one round trip where all are gone through.
PAGE = 500


class Entry(NamedTuple):
    """An entry of the request stream as it was written; a deleted one has no fields."""

    entry_id: str
    fields: dict[str, str]


class RequestStream:
    """Reads entries for one consumer. Every method raises `redis.exceptions.RedisError`."""

    def __init__(self, client: Redis, keys: Keys, consumer: str) -> None:
        self._client = client
        self._name = keys.requests
        self.consumer = consumer
        self._claim_cursor = "0-0"

    def read_new(self, count: int, block_ms: int | None) -> list[Entry]:
        """Wait up to `block_ms` (None: not at all) for entries that no consumer has, and take up
        to `count`."""
        return self._read(">", count, block_ms)

    def read_own(self, after: str, count: int) -> list[Entry]:
        """List up to `count` entries that this consumer holds, those past the id `after`."""
        return self._read(after, count, None)

    def _read(self, start: str, count: int, block_ms: int | None) -> list[Entry]:
        try:
            reply = self._xreadgroup(start, count, block_ms)
        except ResponseError as error:
            if not str(error).startswith("NOGROUP"):
                raise
            self._create_group()
            reply = self._xreadgroup(start, count, block_ms)
        return [Entry(entry_id, fields or {}) for _, batch in reply for entry_id, fields in batch]

    def _create_group(self) -> None:
        """Called on the first start, and when the data was lost; not before it is needed: a
        server that is out of memory refuses the command even if the group exists."""
        try:
            self._client.xgroup_create(self._name, GROUP, id="0", mkstream=True)
        except ResponseError as error:
            if not str(error).startswith("BUSYGROUP"):  # another worker was faster
                raise

    def _xreadgroup(self, start: str, count: int, block_ms: int | None) -> Any:
        return self._client.xreadgroup(
            GROUP, self.consumer, {self._name: start}, count=count, block=block_ms
        )

    def claim_stale(self, idle_ms: int, count: int) -> int:
        """Take over entries that another consumer has held for `idle_ms` without deciding.

        The search goes on where the last one ended, through at most ten times `count` entries.

        Returns:
            How many entries `read_own` will list now that it did not before.
        """
        reply: Any = self._client.xautoclaim(
            self._name, GROUP, self.consumer, idle_ms, self._claim_cursor, count=count
        )
        self._claim_cursor = reply[0]
        return len(reply[1])

    def idle_consumers(self) -> list[str]:
        """Name the other consumers that hold nothing and have been silent for an hour."""
        consumers: Any = self._client.xinfo_consumers(self._name, GROUP)
        return [
            consumer["name"]
            for consumer in consumers
            if consumer["name"] != self.consumer
            and consumer["pending"] == 0
            and consumer["idle"] >= REMOVE_AFTER_MS
        ]


def pages(
    client: Any, stream: str, start: str = "-", end: str = "+"
) -> Iterator[list[tuple[str, dict[str, str]]]]:
    """Yield the entries of any stream from one id to another, a page at a time."""
    while page := client.xrange(stream, start, end, count=PAGE):
        yield page
        start = f"({page[-1][0]}"


def parts(stream_id: str) -> tuple[int, int]:
    """Milliseconds and sequence number of an id, for comparing.

    Raises:
        ValueError: it is none.
    """
    ms, _, sequence = stream_id.partition("-")
    try:
        return int(ms), int(sequence)
    except ValueError:
        raise ValueError(f"{stream_id!r} is not a stream id") from None
