"""What administrators do with one coupon: close, cancel, delete, and read how it was issued."""

from collections.abc import Iterator
from contextlib import suppress
from typing import Any

from redis.exceptions import RedisError

from coupon_service.admin.scripts import AdminScripts
from coupon_service.coupons import unknown
from coupon_service.errors import NotRequested, corrupt_data_of
from coupon_service.installation import Installation
from coupon_service.snapshot import (
    instant,
    issuance,
    milliseconds,
    queue_reads,
    snapshot,
    stream_ms,
)

#: Issuances that are read in one round trip.
PAGE = 500
#: Issuances from which the recent rate and delay are computed.
SAMPLE = 100
#: Pages that a deletion removes itself; a larger coupon is left to the workers.
REMOVED_AT_ONCE = 2


class Operations:
    """Every method raises `Unavailable` when Redis cannot be used now, `UnknownCoupon` if the
    coupon is not registered, and `CorruptData` if its stored data is not what the scripts wrote."""

    def __init__(self, installation: Installation) -> None:
        self._client: Any = installation.client
        self._keys = installation.keys
        self._scripts = AdminScripts(installation.scripts)
        self._bulkhead = installation.bulkhead
        self._removal = installation.removal

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
            _, closes_at = _of_known(coupon_id, self._scripts.close(coupon_id))
            return {"couponId": coupon_id, "closesAt": instant(closes_at)}

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
            reply = self._scripts.cancel(coupon_id, user_id, request_id)
            status, *details = _of_known(coupon_id, reply)
        if status == "not_requested":
            raise NotRequested(f"this user has no such request for {coupon_id}")
        request_status, request_id = details
        return {
            "couponId": coupon_id, "userId": user_id, "requestId": request_id,
            "requestStatus": request_status,
        }

    def delete(self, coupon_id: str) -> dict[str, Any]:
        """Delete a coupon: refuse its pending requests, remove all its records but the log.

        It is unknown at once. The records of a large one are removed by the workers afterwards.

        Returns:
            couponId, and how many were issued and how many pending requests are refused.
        """
        with corrupt_data_of(coupon_id), self._bulkhead:
            _, issued, refused = _of_known(coupon_id, self._scripts.delete(coupon_id))
            with suppress(RedisError):  # it is deleted all the same, and the workers go on
                for _ in range(REMOVED_AT_ONCE):
                    if not self._removal.remove_page(coupon_id):
                        break
        return {"couponId": coupon_id, "issued": issued, "refused": refused}

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


def _of_known(coupon_id: str, reply: list[Any]) -> list[Any]:
    """Return the reply of a script, unless it is that the coupon is not registered."""
    if reply == ["unknown_coupon"]:
        raise unknown(coupon_id)
    return reply


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
