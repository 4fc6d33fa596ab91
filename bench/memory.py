"""Bytes of Redis' memory for each user who was issued a coupon, and what they are for."""

import logging
from pathlib import Path

from redis import Redis

from bench.filling import issue, programs, server_of, used_memory
from bench.peers import COUPON
from bench.report import Section, table
from bench.scale import Scale
from tests.state import KEYS


def run(folder: Path, scale: Scale) -> Section:
    """Measure with each allocator."""
    logging.disable()
    columns = {}
    for allocator, program in programs().items():
        server = server_of(program, folder / allocator)
        try:
            columns[allocator] = _measure(server.client(), scale.remembered)
        finally:
            server.stop()
    text = (
        f"{scale.remembered:,} users with ids such as `user{scale.remembered - 1}`, each issued "
        "one coupon. The log is the only part that grows for ever by itself; it may be trimmed."
    )
    first, *_ = columns.values()
    rows = [(what, *(f"{its[what]:.0f}" for its in columns.values())) for what in first]
    return Section("Memory", f"{text}\n\n{table(['bytes', *columns], rows)}", {
        f"bytes an issued user, {allocator}": [its[_ALL]] for allocator, its in columns.items()
    })


_ALL = "**coupon-service, all**"


def _measure(client: Redis, count: int) -> dict[str, float]:
    """Issue coupons; then take the structures away one by one, and see what becomes free."""
    client.config_set("lazyfree-lazy-user-del", "no")  # free at once, not in the background
    users = [KEYS.user(COUPON, f"user{number}") for number in range(count)]
    issue(client, COUPON, 1)  # the scripts that this loads stay, and are no user's
    client.flushall()
    empty = used_memory(client)
    issue(client, COUPON, count)
    ours = used_memory(client) - empty
    bytes_of = {
        "`coupon-log`: the line of the decision": _freed(client, [KEYS.log]),
        "`coupon:{couponId}:issuances`: the user, by time":
            _freed(client, [KEYS.issuances(COUPON)]),
        "`coupon:{couponId}:user:{userId}`: the mark, with the request id and when":
            _freed(client, users),
        _ALL: ours,
    }
    client.flushall()
    empty = used_memory(client)
    _literal(client, count)
    literal = used_memory(client) - empty
    bytes_of |= {
        "literal: the entry, which is never deleted": _freed(client, [KEYS.requests]),
        "literal: the mark, `issued`": _freed(client, users),
        "**literal, all**": literal,
    }
    return {what: its / count for what, its in bytes_of.items()}


def _freed(client: Redis, keys: list[str]) -> int:
    before = used_memory(client)
    for start in range(0, len(keys), 1000):
        client.delete(*keys[start:start + 1000])
    return before - used_memory(client)


def _literal(client: Redis, count: int) -> None:
    for start in range(0, count, 1000):
        with client.pipeline(transaction=False) as pipeline:
            for number in range(start, min(start + 1000, count)):
                user = f"user{number}"
                pipeline.xadd(KEYS.requests, {"couponId": COUPON, "userId": user})
                pipeline.set(KEYS.user(COUPON, user), "issued")
            pipeline.execute()
