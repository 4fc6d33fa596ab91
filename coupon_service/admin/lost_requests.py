"""Finds the admitted requests that no worker will read any more."""

from collections.abc import Callable, Iterator
from typing import Any

from redis.exceptions import RedisError

from coupon_service.errors import is_corrupt_data
from coupon_service.keys import GROUP, Keys
from coupon_service.stream import PAGE, parts


def lost_requests(
    client: Any, keys: Keys, coupon_id: str, advance: Callable[[int], object]
) -> Iterator[tuple[str, str]]:
    """Yield userId and pending mark of each request whose entry is not on the stream, or was
    delivered and is pending no more. All of one is read at one instant, so nothing is moving.

    Args:
        advance: called with the number of requests that were looked at.
    """
    cursor = 0
    while True:
        cursor, pending = client.hscan(keys.pending(coupon_id), cursor, count=PAGE)
        advance(len(pending))
        # Marks of other systems name no entry.
        named = {user_id: (*mark.split(" "), "")[1] for user_id, mark in pending.items()}
        with client.pipeline(transaction=True) as reads:
            reads.xinfo_groups(keys.requests)
            for user_id, entry_id in named.items():
                entry_id = entry_id or "0-1"
                reads.hget(keys.pending(coupon_id), user_id)
                reads.xrange(keys.requests, entry_id, entry_id)
                reads.xpending_range(keys.requests, GROUP, entry_id, entry_id, 1)
            groups, *found = reads.execute(raise_on_error=False)
        delivered = _last_delivered(groups)
        for row, (user_id, entry_id) in enumerate(named.items()):
            mark, entries, held = found[3 * row:][:3]
            ahead = bool(entry_id) and parts(entry_id) > delivered
            readable = bool(listed(entries)) and (ahead or bool(listed(held)))
            if mark == pending[user_id] and not readable:
                yield user_id, mark
        if cursor == 0:
            return


def listed(reply: Any) -> list[Any]:
    """The entries in a reply, none where the server has refused the command."""
    return reply if isinstance(reply, list) else []


def _last_delivered(groups: Any) -> tuple[int, int]:
    """The id up to which the workers have been given entries, from the reply to XINFO GROUPS."""
    if isinstance(groups, RedisError):
        if is_corrupt_data(groups):
            raise groups
        groups = []  # there is no stream
    return next(
        (parts(group["last-delivered-id"]) for group in groups if group["name"] == GROUP), (0, 0)
    )
