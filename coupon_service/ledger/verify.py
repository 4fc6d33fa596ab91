"""Compares a sink with Redis: the lines that both have, and who holds what by either."""

import re
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from heapq import merge
from itertools import groupby
from pathlib import Path
from typing import Any, TypeVar

from redis.exceptions import ResponseError
from sqlalchemy import make_url

from coupon_service.admin.coupon_list import CouponList
from coupon_service.errors import is_corrupt_data
from coupon_service.installation import Installation
from coupon_service.keys import COUPON_ID
from coupon_service.ledger.line import GONE_BACK, from_log
from coupon_service.ledger.queries import Queries
from coupon_service.ledger.sinks import Sink
from coupon_service.ledger.sql import SqlSink
from coupon_service.stream import pages, parts

T = TypeVar("T")

#: Lines, issuances or ids that are read at a time.
PAGE = 1000


@contextmanager
def queryable(sink: Sink, partitions: Iterable[int]) -> Iterator[tuple[Queries, list[str]]]:
    """Give what can be asked of the sink if it is a table, else of a table of its lines in a
    temporary file; and a line of text for each that is not in its order, which a table does not
    show."""
    if isinstance(sink, SqlSink):
        yield Queries(sink), []
        return
    disorder: list[str] = []
    with tempfile.TemporaryDirectory() as folder:
        copy = SqlSink(make_url(f"sqlite:///{Path(folder) / 'ledger.db'}"))
        for partition in partitions:
            copy.open(partition)
            before = "0-0"
            for page in sink.pages(partition, "0-0", PAGE):
                copy.append(partition, page)
                for line in page:
                    if parts(line.log_id) <= parts(before):
                        disorder.append(f"line {line.log_id} comes after {before}")
                    before = line.log_id
        yield Queries(copy), disorder
        copy.close()


def differences(installation: Installation, sink: Queries) -> Iterator[str]:
    """Yield a line of text for each difference, of what the sink has copied so far.

    While the service runs, what it does between two reads is a difference too: what is one still
    when this is called again, after the sink has copied all that was logged, is none of those.

    Raises:
        redis.exceptions.RedisError, SinkError: either cannot be read.
    """
    yield from _lines(installation, sink)
    lost = sink.lost_ranges(installation.partition)
    for coupon_id in _coupon_ids(installation, sink):
        try:
            for text in _coupon(installation, sink, coupon_id, lost):
                yield f"{coupon_id}: {text}"
        except ResponseError as error:
            if not is_corrupt_data(error):
                raise
            yield f"{coupon_id}: corrupt data: {error}"


def _lines(installation: Installation, sink: Queries) -> Iterator[str]:
    """Compare the lines that Redis has not trimmed and the sink has copied."""
    client: Any = installation.client
    keys, partition = installation.keys, installation.partition
    trimmed, end = client.get(keys.trimmed) or "0-0", _end(sink, partition)
    redis = (
        from_log(partition, *entry)
        for page in pages(client, keys.log, f"({trimmed}", end) for entry in page
    )
    ledger = (line for page in sink.pages(partition, trimmed, PAGE) for line in page)
    lost: list[str] = []
    for ours, theirs in _paired(redis, ledger, key=lambda line: parts(line.log_id)):
        if ours and theirs:
            if ours != theirs:
                yield f"line {ours.log_id} is another in redis"
        elif ours:
            yield f"line {ours.log_id} is in redis alone"
        elif theirs and theirs.decision == GONE_BACK:
            first = parts(str(theirs.entry_id))
            lost = [each for each in lost if parts(each) <= first]
        elif theirs:
            lost.append(theirs.log_id)
    yield from (f"line {log_id} is in the ledger alone" for log_id in lost)


def _coupon(
    installation: Installation, sink: Queries, coupon_id: str, lost: list[Any]
) -> Iterator[str]:
    client: Any = installation.client
    keys, partition = installation.keys, installation.partition
    quantity, deleted_at, since = client.hmget(
        keys.coupon(coupon_id), "quantity", "deletedAt", "registeredAt"
    )
    quantity = None if deleted_at else quantity
    noted = sink.quantity(partition, coupon_id, lost)
    if noted is None and not quantity:
        return  # gone from both, by version 0.1 without a line that says so
    if noted is not None and str(noted) != quantity:
        yield f"quantity is {noted} in the ledger, and {quantity or 'none'} in redis"
    # What was before the ledger is in Redis alone, and lives that 0.1 ended in the ledger alone.
    first = next(sink.pages(partition, "0-0", 1), [])
    begin = first[0].log_id if first else "+"
    life = (int(since or 0) if quantity else 0, 0)
    end = _end(sink, partition)
    ours = (
        (log_id, entry.get("userId", ""))
        for page in pages(client, keys.issuances(coupon_id), begin, end) for log_id, entry in page
    ) if quantity else iter(())
    theirs = (
        each for each in sink.holders(partition, coupon_id, lost) if parts(each[0]) >= life
    )
    for held, noted_as in _paired(ours, theirs, key=lambda each: parts(each[0])):
        if held != noted_as:
            log_id, user_id = held or noted_as or ("", "")
            place = "redis" if held else "the ledger"
            yield f"{user_id!r} holds it in {place} alone, by line {log_id}"


def _coupon_ids(installation: Installation, sink: Queries) -> Iterator[str]:
    redis = (each for page in CouponList(installation).id_pages() for each in page)
    for coupon_id, _ in groupby(merge(redis, _noted_ids(installation.partition, sink))):
        if re.fullmatch(COUPON_ID, coupon_id):  # else it is a line that others wrote
            yield coupon_id


def _end(sink: Queries, partition: int) -> str:
    last = sink.last(partition)
    return last.log_id if last else "0-0"


def _noted_ids(partition: int, sink: Queries) -> Iterator[str]:
    after = ""
    while page := sink.coupon_ids(partition, after, PAGE):
        yield from page
        after = page[-1]


def _paired(
    ours: Iterable[T], theirs: Iterable[T], key: Any
) -> Iterator[tuple[T | None, T | None]]:
    """Join two sequences in the order of a key: what both have, and what one has alone."""
    tagged = merge(
        ((each, 0) for each in ours), ((each, 1) for each in theirs), key=lambda it: key(it[0])
    )
    for _, same in groupby(tagged, key=lambda it: key(it[0])):
        pair: list[T | None] = [None, None]
        for each, place in same:
            pair[place] = each
        yield pair[0], pair[1]
