"""What administrators do: list, close, cancel, delete, and look at issuances."""

from collections.abc import Iterator
from typing import Any

from redis import Redis

from coupon_service.coupons import unknown
from coupon_service.errors import NotRequested
from coupon_service.keys import Keys
from coupon_service.numbers import (
    LOOKS,
    instant,
    issuance,
    look,
    milliseconds,
    numbers,
    recent,
)
from coupon_service.outage import Gate
from coupon_service.scripts import Scripts

#: Coupons or marks that are looked at in one round trip.
PAGE = 500
#: Issuances that the statistics look back on.
SAMPLE = 100


class Administration:
    """Every method raises `Unavailable` when Redis cannot be used now, and those that are given
    a coupon raise `UnknownCoupon` if it is not registered."""

    def __init__(self, client: Redis, keys: Keys, scripts: Scripts, gate: Gate) -> None:
        self._client: Any = client
        self._keys = keys
        self._scripts = scripts
        self._gate = gate

    def coupons(self) -> list[dict[str, Any]]:
        """List all coupons by id with what `numbers.numbers` tells of each.

        Those that have vanished by their expiry are forgotten on the way.
        """
        found = []
        for ids in _pages(self._ids()):
            with self._gate, self._client.pipeline(transaction=False) as looks:
                for coupon_id in ids:
                    look(looks, self._keys, coupon_id)
                looks.time()
                *replies, time = looks.execute()
            for row, coupon_id in enumerate(ids):
                shown = numbers(coupon_id, replies[LOOKS * row:][:LOOKS], milliseconds(time))
                if shown:
                    found.append(shown)
                else:
                    with self._gate:
                        self._scripts.forget(coupon_id)
        return found

    def statistics(self, coupon_id: str) -> dict[str, Any]:
        """Tell the numbers of a coupon and how it went lately.

        Returns:
            What `numbers.numbers` tells, and recent: of up to 100 newest issuances their number,
            issuedPerSecond, and secondsToDecision from request to issuance (p50 and max); None
            where there is nothing to tell.
        """
        keys = self._keys
        with self._gate:
            with self._client.pipeline(transaction=True) as snapshot:
                look(snapshot, keys, coupon_id)
                snapshot.time()
                snapshot.xrevrange(keys.issuances(coupon_id), count=SAMPLE)
                *replies, time, newest = snapshot.execute()
            with self._client.pipeline(transaction=False) as lines:
                for log_id, _ in newest:
                    lines.xrange(keys.log, log_id, log_id)
                logged = [line for found in lines.execute() for line in found]
        shown = numbers(coupon_id, replies, milliseconds(time))
        if shown is None:
            raise unknown(coupon_id)
        return {**shown, "recent": recent(logged)}

    def close(self, coupon_id: str) -> dict[str, Any]:
        """Close a coupon now. Returns couponId and closesAt (RFC 3339)."""
        with self._gate:
            status, *closes_at = self._scripts.close(coupon_id)
        if status == "unknown_coupon":
            raise unknown(coupon_id)
        return {"couponId": coupon_id, "closesAt": instant(closes_at[0])}

    def cancel(self, coupon_id: str, user_id: str) -> dict[str, Any]:
        """Take a user's coupon, or pending request, back: the place returns.

        Returns:
            couponId, userId, requestId, and requestStatus as it was: pending or issued.

        Raises:
            NotRequested: there is neither.
        """
        with self._gate:
            status, *details = self._scripts.cancel(coupon_id, user_id)
        if status == "unknown_coupon":
            raise unknown(coupon_id)
        if status == "not_requested":
            raise NotRequested(f"this user has no request for {coupon_id}")
        request_status, request_id = details
        return {
            "couponId": coupon_id,
            "userId": user_id,
            "requestId": request_id,
            "requestStatus": request_status,
        }

    def delete(self, coupon_id: str) -> dict[str, Any]:
        """End a coupon: pending requests are refused, all that is known of it is removed.

        Returns:
            couponId, and how many were issued and how many were refused.
        """
        with self._gate:
            status, *counts = self._scripts.delete(coupon_id)
        if status == "unknown_coupon":
            raise unknown(coupon_id)
        return {"couponId": coupon_id, "issued": counts[0], "refused": counts[1]}

    def issuances(
        self, coupon_id: str, limit: int, before: str = ""
    ) -> tuple[list[dict[str, Any]], str]:
        """List issuances, the newest first.

        Args:
            limit: how many at the most, 1 or more.
            before: where to go on, as an earlier call has said; empty to begin with.

        Returns:
            userId, requestId and issuedAt (RFC 3339) of each; and where to go on, empty at the
            end.
        """
        keys = self._keys
        with self._gate, self._client.pipeline(transaction=False) as look_up:
            look_up.exists(keys.coupon(coupon_id))
            last = f"({before}" if before else "+"
            look_up.xrevrange(keys.issuances(coupon_id), last, "-", count=limit)
            registered, entries = look_up.execute()
            users = [entry["userId"] for _, entry in entries]
            marks = self._client.mget([keys.user(coupon_id, user) for user in users] or ["-"])
        if not registered:
            raise unknown(coupon_id)
        page = [
            {"userId": user, **issuance(mark)}
            for user, mark in zip(users, marks, strict=False) if mark  # else cancelled since
        ]
        return page, entries[-1][0] if len(entries) == limit else ""

    def issuance(self, coupon_id: str, user_id: str) -> list[dict[str, Any]]:
        """List the issuance of one user as `issuances` does, if there is one."""
        keys = self._keys
        with self._gate:
            registered = self._client.exists(keys.coupon(coupon_id))
            mark = self._client.get(keys.user(coupon_id, user_id))
        if not registered:
            raise unknown(coupon_id)
        return [{"userId": user_id, **issuance(mark)}] if mark else []

    def all_issuances(self, coupon_id: str) -> Iterator[dict[str, Any]]:
        """Give all issuances, the newest first, a page at a time: memory stays flat."""
        page, after = self.issuances(coupon_id, PAGE)
        yield from page
        while after:
            page, after = self.issuances(coupon_id, PAGE, after)
            yield from page

    def held_by(self, user_id: str) -> list[dict[str, Any]]:
        """List what a user holds, of the coupons that are registered.

        Returns:
            couponId, requestId and issuedAt (RFC 3339) of each, by couponId.
        """
        held = []
        for ids in _pages(self._ids()):
            with self._gate:
                marks = self._client.mget([self._keys.user(each, user_id) for each in ids])
            for coupon_id, mark in zip(ids, marks, strict=True):
                if mark:
                    held.append({"couponId": coupon_id, **issuance(mark)})
        return held

    def _ids(self) -> list[str]:
        with self._gate:
            return sorted(self._client.smembers(self._keys.coupons))


def _pages(ids: list[str]) -> Iterator[list[str]]:
    for start in range(0, len(ids), PAGE):
        yield ids[start:start + PAGE]
