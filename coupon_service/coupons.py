"""What front ends do with a coupon: register, request, status and snapshot."""

import math
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from redis import Redis

from coupon_service.batching import Batches
from coupon_service.circuit_breaker import Bulkhead
from coupon_service.coupon_scripts import CouponScripts
from coupon_service.errors import (
    BeingRemoved,
    Closed,
    Duplicate,
    InvalidWindow,
    NotOpen,
    NotRequested,
    QuantityTooLow,
    SoldOut,
    UnknownCoupon,
    corrupt_data_of,
)
from coupon_service.keys import Keys
from coupon_service.poll_after import PollAfter
from coupon_service.scripts import Registration, Request
from coupon_service.snapshot import instant, milliseconds, queue_reads, snapshot, stream_ms

#: Seconds after which a coupon whose id is being removed may be registered again.
REMOVED_AFTER = 1


class Coupons:
    """The coupons of one installation. Ids have matched the patterns in `keys`.

    Every method is one round trip, and raises `Unavailable` when Redis cannot be used now and
    `CorruptData` when the stored data of the coupon is not what the scripts wrote.
    """

    def __init__(
        self, client: Redis, keys: Keys, scripts: CouponScripts, bulkhead: Bulkhead,
        admissions: Batches, polls: Batches,
    ) -> None:
        self._client, self._keys, self._scripts = client, keys, scripts
        self._bulkhead = bulkhead
        self._admissions, self._polls = admissions, polls
        self._poll_after = PollAfter()

    def register(
        self, *registrations: Registration, only_check: bool = False
    ) -> list[dict[str, Any]]:
        """Register coupons, all of them or none.

        A registration can be repeated, and changed while the coupon is being issued.

        Args:
            only_check: whether nothing is changed, and what would be refused now is raised.

        Returns:
            couponId, quantity, stock and requested of each as they are afterwards.

        Raises:
            QuantityTooLow, InvalidWindow, BeingRemoved: one is refused; nothing was changed.
        """
        ids = ", ".join(registration.coupon_id for registration in registrations[:9])
        with corrupt_data_of(ids), self._bulkhead:
            status, *reply = self._scripts.register(registrations, only_check)
        if status != "registered":
            raise _REGISTER_REFUSALS[status](*reply)
        names = ("quantity", "stock", "requested")
        return [
            {"couponId": registration.coupon_id, **dict(zip(names, reply[3 * row:], strict=False))}
            for row, registration in enumerate(registrations)
        ]

    def request(self, coupon_id: str, user_id: str, request_id: str) -> dict[str, Any]:
        """Request one coupon for a user.

        The same `request_id` for the same user and coupon is accepted again, and takes no
        second place; that makes an accepted request safe to repeat.

        Returns:
            couponId, userId, requestId, the status "pending", and pollAfterMs: how many ms from now
            its decision is probably there.

        Raises:
            UnknownCoupon: the coupon is not registered.
            NotOpen, Closed: it cannot be requested yet, or any more.
            SoldOut: every place is taken.
            Duplicate: another request of the user is pending or issued.
        """
        with corrupt_data_of(coupon_id):
            status, *details = self._admissions.ask(Request(coupon_id, user_id, request_id))
            if status != "accepted":
                raise _refusal(coupon_id, status, details)
        return {
            "couponId": coupon_id, "userId": user_id, "requestId": request_id, "status": "pending",
            "pollAfterMs": self._poll_after.ms,
        }

    def user(self, coupon_id: str, user_id: str) -> dict[str, Any]:
        """Return the status of a user's request.

        Returns:
            couponId, userId, requestId and status: pending with pollAfterMs, or issued or expired
            with issuedAt (RFC 3339).

        Raises:
            UnknownCoupon: the coupon is not registered.
            NotRequested: nothing of this user is pending or issued.
        """
        with corrupt_data_of(coupon_id):
            status, *details = self._polls.ask(Request(coupon_id, user_id, ""))
        if status == "unknown_coupon":
            raise unknown(coupon_id)
        if status == "not_requested":
            raise NotRequested(f"this user has no request for {coupon_id}")
        mark, now = details
        request_id, _, stream_id = mark.partition(" ")
        answer = {
            "couponId": coupon_id, "userId": user_id, "requestId": request_id, "status": status,
        }
        try:
            since = stream_ms(stream_id)
        except ValueError:  # a mark of another system
            return answer if status != "pending" else {**answer, "pollAfterMs": self._poll_after.ms}
        if status == "pending":
            return {**answer, "pollAfterMs": self._poll_after.pending(now - since)}
        self._poll_after.issued(now - since)
        with suppress(OverflowError):
            answer["issuedAt"] = instant(since)
        return answer

    def snapshot(self, coupon_id: str) -> dict[str, Any]:
        """Return the counters and the state of a coupon at one instant; see `snapshot.snapshot`.

        Raises:
            UnknownCoupon: the coupon is not registered.
        """
        with corrupt_data_of(coupon_id), self._bulkhead:
            with self._client.pipeline(transaction=True) as reads:
                queue_reads(reads, self._keys, coupon_id)
                reads.time()
                *replies, time = reads.execute()
            answer = snapshot(coupon_id, replies, milliseconds(time))
        if answer is None:
            raise unknown(coupon_id)
        return answer


def unknown(coupon_id: str) -> UnknownCoupon:
    """The error for a coupon that is not registered."""
    return UnknownCoupon(f"no coupon {coupon_id} is registered")


def _refusal(coupon_id: str, status: str, details: list[str]) -> Exception:
    if status == "unknown_coupon":
        return unknown(coupon_id)
    if status == "not_open":
        opens_at, wait_ms = details
        seconds = math.ceil(int(wait_ms) / 1000)
        return NotOpen(
            f"{coupon_id} cannot be requested yet", seconds, opensAt=instant(opens_at)
        )
    if status == "closed":
        return Closed(f"{coupon_id} cannot be requested any more")
    if status == "sold_out":
        return SoldOut(f"every coupon of {coupon_id} is taken")
    state, holder = details
    return Duplicate(
        f"this user's request for {coupon_id} is {state} already", requestStatus=state,
        requestId=holder,
    )


_REGISTER_REFUSALS: dict[str, Callable[[str, int, int], Exception]] = {
    "quantity_too_low": lambda coupon_id, quantity, requested: QuantityTooLow(
        f"{requested} places of {coupon_id} are taken, so its quantity cannot be less",
        couponId=coupon_id, quantity=quantity, requested=requested,
    ),
    "invalid_window": lambda coupon_id, *_: InvalidWindow(
        f"{coupon_id} needs opensAt < closesAt <= expiresAt, and an expiresAt after which it is "
        "kept for a while",
        couponId=coupon_id,
    ),
    "being_removed": lambda coupon_id, *_: BeingRemoved(
        f"the records of {coupon_id}, which was deleted or has expired, are being removed",
        REMOVED_AFTER, couponId=coupon_id,
    ),
}
