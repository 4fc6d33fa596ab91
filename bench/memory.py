"""Bytes of Redis' memory for each user who was issued a coupon, and what they are for."""

import logging
from collections.abc import Callable
from pathlib import Path

from redis import Redis

from bench.filling import issue
from bench.report import Section, table
from bench.scale import Scale
from tests.processes import Server
from tests.state import KEYS

COUPON = "BENCH"


def run(folder: Path, scale: Scale) -> Section:
    """Issue coupons; then take the structures away one by one, and see what becomes free."""
    logging.disable()
    count = scale.remembered
    server = Server(folder)
    server.start()
    try:
        client = server.client()
        client.config_set("lazyfree-lazy-user-del", "no")  # free at once, not in the background
        empty = _used(client)
        issue(client, COUPON, count)
        full = (_used(client) - empty) / count
        users = [KEYS.user(COUPON, f"user{number}") for number in range(count)]
        parts = [
            ("`coupon-log`: the line of the decision", lambda: client.delete(KEYS.log)),
            ("`coupon:{couponId}:issuances`: the user, by time",
             lambda: client.delete(KEYS.issuances(COUPON))),
            ("`coupon:{couponId}:user:{userId}`: the mark, with the request id and when",
             lambda: _delete(client, users)),
        ]
        rows = [(text, f"{_freed(client, delete, count):.0f}") for text, delete in parts]

        client.flushall()
        empty = _used(client)
        _literal(client, count)
        literal_full = (_used(client) - empty) / count
        rows_literal = [
            ("literal: the entry, which is never deleted",
             f"{_freed(client, lambda: client.delete(KEYS.requests), count):.0f}"),
            ("literal: the mark, `issued`",
             f"{_freed(client, lambda: _delete(client, users), count):.0f}"),
        ]
    finally:
        server.stop()
    text = (
        f"{count:,} users with ids such as `{users[-1].rpartition(':')[2]}`, each issued one "
        "coupon. The log is the only part that grows for ever by itself; it may be trimmed.\n\n"
    )
    return Section("Memory", text + table(["what for", "bytes"], [
        *rows, ("**coupon-service, all**", f"**{full:.0f}**"),
        *rows_literal, ("**literal, all**", f"**{literal_full:.0f}**"),
    ]), [])


def _used(client: Redis) -> int:
    return int(client.info("memory")["used_memory"])


def _freed(client: Redis, delete: Callable[[], object], count: int) -> float:
    before = _used(client)
    delete()
    return (before - _used(client)) / count


def _delete(client: Redis, keys: list[str]) -> None:
    for start in range(0, len(keys), 1000):
        client.delete(*keys[start:start + 1000])


def _literal(client: Redis, count: int) -> None:
    for start in range(0, count, 1000):
        with client.pipeline(transaction=False) as pipeline:
            for number in range(start, min(start + 1000, count)):
                user = f"user{number}"
                pipeline.xadd(KEYS.requests, {"couponId": COUPON, "userId": user})
                pipeline.set(KEYS.user(COUPON, user), "issued")
            pipeline.execute()
