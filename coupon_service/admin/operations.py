"""What administrators do with the coupons of one partition: list, close, cancel, delete, and read
the issuances."""

import logging
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

from redis.exceptions import RedisError, ResponseError

from coupon_service.admin.scripts import AdminScripts
from coupon_service.coupons import unknown
from coupon_service.errors import (
    CorruptData,
    NotRequested,
    Unavailable,
    corrupt_data_of,
    is_corrupt_data,
)
from coupon_service.installation import Installation
from coupon_service.snapshot import (
    READS,
    instant,
    issuance,
    milliseconds,
    queue_reads,
    snapshot,
    stream_ms,
)

log = logging.getLogger(__name__)

#: Coupons or marks that are read in one round trip.
PAGE = 500
#: Issuances from which the recent rate and delay are computed.
SAMPLE = 100
#: Pages that a deletion removes itself; a larger coupon is left to the workers.
REMOVED_AT_ONCE = 2


class Operations:
    """Every method raises `Unavailable` when Redis cannot be used now, and those that are given
    a coupon raise `UnknownCoupon` if it is not registered, and `CorruptData` if its stored data is
    not what the scripts wrote."""

    def __init__(self, installation: Installation) -> None:
        self._client: Any = installation.client
        self._keys = installation.keys
        self._scripts = AdminScripts(installation.scripts)
        self._bulkhead = installation.bulkhead
        self._removal = installation.removal

    def snapshots(self, ids: list[str]) -> list[dict[str, Any]]:
        """Read the counters of many coupons.

        Returns:
            What `snapshot.snapshot` returns of each that is registered, in the order of the ids, or
            couponId and the state "corrupt" of one whose stored data is not what the scripts wrote.
        """
        with self._bulkhead, self._client.pipeline(transaction=False) as reads:
            for coupon_id in ids:
                queue_reads(reads, self._keys, coupon_id)
            reads.time()
            *replies, time = _unless_corrupt(reads.execute(raise_on_error=False))
        shown = []
        for row, coupon_id in enumerate(ids):
            try:
                with corrupt_data_of(coupon_id):
                    its = replies[READS * row:][:READS]
                    shown.append(snapshot(coupon_id, its, milliseconds(time)))
            except CorruptData as error:
                log.error("corrupt data couponId=%s error=%s", coupon_id, error.__cause__)
                shown.append({"couponId": coupon_id, "state": "corrupt"})
        return [each for each in shown if each]

    def statistics(self, coupon_id: str) -> dict[str, Any]:
        """Return the snapshot of a coupon, and how fast it was issued recently.

        Returns:
            What `snapshot.snapshot` returns, and recent: of up to 100 newest issuances their
            number, issuedPerSecond, and secondsToDecision from request to issuance (p50, p99, max);
            None where there are too few.
        """
        keys = self._keys
        with corrupt_data_of(coupon_id), self._bulkhead:
            with self._client.pipeline(transaction=True) as reads:
                queue_reads(reads, keys, coupon_id)
                reads.time()
                reads.xrevrange(keys.issuances(coupon_id), count=SAMPLE)
                *replies, time, newest = reads.execute()
            with self._client.pipeline(transaction=False) as reads:
                for log_id, _ in newest:
                    reads.xrange(keys.log, log_id, log_id)
                lines = [line for found in reads.execute() for line in found]
            shown = snapshot(coupon_id, replies, milliseconds(time))
            recent = _recent(lines)
        if shown is None:
            raise unknown(coupon_id)
        return {**shown, "recent": recent}

    def close(self, coupon_id: str) -> dict[str, Any]:
        """Close a coupon now. Returns couponId and closesAt (RFC 3339)."""
        with corrupt_data_of(coupon_id), self._bulkhead:
            status, *closes_at = self._scripts.close(coupon_id)
            if status == "unknown_coupon":
                raise unknown(coupon_id)
            return {"couponId": coupon_id, "closesAt": instant(closes_at[0])}

    def cancel(self, coupon_id: str, user_id: str, request_id: str = "") -> dict[str, Any]:
        """Cancel a user's issuance, or withdraw the pending request: the place returns.

        Args:
            request_id: the request that is meant, which makes the call safe to repeat; empty for
                whichever the user has.

        Returns:
            couponId, userId, requestId, and requestStatus as it was: pending or issued.

        Raises:
            NotRequested: there is neither, or it is of another request.
        """
        with corrupt_data_of(coupon_id), self._bulkhead:
            status, *details = self._scripts.cancel(coupon_id, user_id, request_id)
        if status == "unknown_coupon":
            raise unknown(coupon_id)
        if status == "not_requested":
            raise NotRequested(f"this user has no such request for {coupon_id}")
        request_status, request_id = details
        return {
            "couponId": coupon_id,
            "userId": user_id,
            "requestId": request_id,
            "requestStatus": request_status,
        }

    def delete(self, coupon_id: str) -> dict[str, Any]:
        """Delete a coupon: refuse its pending requests, remove all its records but the log.

        It is unknown at once. The records of a large one are removed by the workers afterwards.

        Returns:
            couponId, and how many were issued and how many pending requests are refused.
        """
        with corrupt_data_of(coupon_id), self._bulkhead:
            status, *counts = self._scripts.delete(coupon_id)
            if status == "unknown_coupon":
                raise unknown(coupon_id)
            with suppress(RedisError):  # it is deleted all the same, and the workers go on
                for _ in range(REMOVED_AT_ONCE):
                    if not self._removal.remove_page(coupon_id):
                        break
        return {"couponId": coupon_id, "issued": counts[0], "refused": counts[1]}

    def issuances(
        self, coupon_id: str, limit: int, before: str = ""
    ) -> tuple[list[dict[str, Any]], str]:
        """List issuances, the newest first.

        Args:
            limit: how many at the most, 1 or more.
            before: where the page begins, as an earlier call has returned it; empty for the first.

        Returns:
            userId, requestId and issuedAt (RFC 3339) of each; and the `before` of the next page,
            empty at the end.
        """
        keys = self._keys
        with corrupt_data_of(coupon_id), self._bulkhead:
            with self._client.pipeline(transaction=False) as reads:
                reads.hmget(keys.coupon(coupon_id), "quantity", "deletedAt")
                last = f"({before}" if before else "+"
                reads.xrevrange(keys.issuances(coupon_id), last, "-", count=limit)
                coupon, entries = reads.execute()
            users = [entry["userId"] for _, entry in entries]
            names = [keys.user(coupon_id, user) for user in users]
            marks = self._client.mget(names) if names else []
        _must_be_registered(coupon_id, coupon)
        page = [
            {"userId": user, **issuance(mark)}
            for user, mark in zip(users, marks, strict=True) if mark  # else cancelled since
        ]
        return page, entries[-1][0] if len(entries) == limit else ""

    def issuance(self, coupon_id: str, user_id: str) -> list[dict[str, Any]]:
        """List the issuance of one user as `issuances` does, if there is one."""
        keys = self._keys
        with corrupt_data_of(coupon_id), self._bulkhead:
            with self._client.pipeline(transaction=False) as reads:
                reads.hmget(keys.coupon(coupon_id), "quantity", "deletedAt")
                reads.get(keys.user(coupon_id, user_id))
                coupon, mark = reads.execute()
        _must_be_registered(coupon_id, coupon)
        return [{"userId": user_id, **issuance(mark)}] if mark else []

    def all_issuances(self, coupon_id: str) -> Iterator[dict[str, Any]]:
        """Yield all issuances, the newest first, a page at a time: memory stays flat."""
        page, before = self.issuances(coupon_id, PAGE)
        yield from page
        while before:
            page, before = self.issuances(coupon_id, PAGE, before)
            yield from page

    def held_by(self, user_id: str) -> list[dict[str, Any]]:
        """List what a user holds, of the coupons that are registered.

        Returns:
            couponId, requestId and issuedAt (RFC 3339) of each, by couponId.
        """
        held = []
        for ids in self.id_pages():
            with self._bulkhead, self._client.pipeline(transaction=False) as reads:
                reads.mget([self._keys.user(coupon_id, user_id) for coupon_id in ids])
                for coupon_id in ids:
                    reads.hexists(self._keys.coupon(coupon_id), "deletedAt")
                marks, *deleted = _unless_corrupt(reads.execute(raise_on_error=False))
            for coupon_id, mark, gone in zip(ids, marks, deleted, strict=True):
                if mark and gone is not True:
                    held.append({"couponId": coupon_id, **issuance(mark)})
        return held

    def id_pages(self) -> Iterator[list[str]]:
        """Yield the ids of all registered coupons in their order, a page at a time."""
        after = ""
        while page := self.ids(after, PAGE):
            yield page
            after = page[-1]

    def ids(self, after: str, limit: int, prefix: str = "") -> list[str]:
        """List the ids of up to `limit` registered coupons that come after `after` and begin with
        `prefix`, in order."""
        start = f"({after}" if after and after >= prefix else f"[{prefix}"
        end = f"({prefix}\x7f" if prefix else "+"  # above every character of an id
        with self._bulkhead:
            try:
                ids: list[str] = self._client.zrangebylex(self._keys.coupons, start, end, 0, limit)
            except ResponseError as error:
                if not str(error).startswith("WRONGTYPE"):
                    raise
                raise Unavailable("a worker is still converting the data", 1) from error
        return ids


def _unless_corrupt(replies: list[Any]) -> list[Any]:
    """Return the replies; raise the first error that is not of corrupt data."""
    for reply in replies:
        if isinstance(reply, RedisError) and not is_corrupt_data(reply):
            raise reply
    return replies


def _must_be_registered(coupon_id: str, coupon: tuple[str | None, str | None]) -> None:
    quantity, deleted_at = coupon
    if deleted_at or not quantity:
        raise unknown(coupon_id)


def _recent(lines: list[tuple[str, dict[str, str]]]) -> dict[str, Any]:
    """Make statistics of lines of the log that say issued, the newest first.

    The id of a line says when it was decided, that of its entry when it was requested.
    """
    decided = [stream_ms(log_id) for log_id, _ in lines]
    asked = [stream_ms(line["entryId"]) for _, line in lines]
    waits = sorted((end - start) / 1000 for start, end in zip(asked, decided, strict=True))
    span = (decided[0] - decided[-1]) / 1000 if decided else 0
    return {
        "issuances": len(lines),
        "issuedPerSecond": round((len(lines) - 1) / span, 3) if span else None,
        "secondsToDecision": {**quantiles(waits), "max": waits[-1]} if waits else None,
    }


def quantiles(ascending: list[float]) -> dict[str, float]:
    """Return p50 and p99 of one value or more."""
    count = len(ascending)
    return {"p50": ascending[count // 2], "p99": ascending[(99 * count - 1) // 100]}
