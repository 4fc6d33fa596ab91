"""What users and front ends ask of a coupon: register, request, status and numbers."""

import math
from typing import Any

from redis import Redis

from coupon_service.admission import Admission
from coupon_service.errors import (
    Closed,
    Duplicate,
    InvalidWindow,
    NotOpen,
    NotRequested,
    QuantityTooLow,
    SoldOut,
    UnknownCoupon,
)
from coupon_service.keys import Keys
from coupon_service.numbers import instant, issuance, look, milliseconds, numbers
from coupon_service.outage import Gate
from coupon_service.scripts import Ask, Declaration, Scripts


class Coupons:
    """The coupons of one installation. Ids have matched the patterns in `keys`.

    Every method is one round trip, and raises `Unavailable` when Redis cannot be used now.
    """

    def __init__(self, client: Redis, keys: Keys, scripts: Scripts, gate: Gate) -> None:
        self._client = client
        self._keys = keys
        self._scripts = scripts
        self._gate = gate
        self._admission = Admission(scripts, gate)

    def register(self, *declarations: Declaration) -> list[dict[str, Any]]:
        """Declare coupons, all of them or none.

        A declaration can be repeated, and changed while the coupon is being issued.

        Returns:
            couponId, quantity, stock and requested of each as they are afterwards.

        Raises:
            QuantityTooLow: more places are taken than the quantity; nothing was changed.
            InvalidWindow: the window would not be in order; nothing was changed.
        """
        with self._gate:
            status, *reply = self._scripts.register(list(declarations))
        if status == "quantity_too_low":
            coupon_id, quantity, requested = reply
            raise QuantityTooLow(
                f"{requested} places of {coupon_id} are taken, so its quantity cannot be less",
                couponId=coupon_id,
                quantity=quantity,
                requested=requested,
            )
        if status == "invalid_window":
            raise InvalidWindow(
                f"{reply[0]} needs opensAt < closesAt <= expiresAt", couponId=reply[0]
            )
        names = ("quantity", "stock", "requested")
        return [
            {"couponId": declaration.coupon_id, **dict(zip(names, reply[3 * row:], strict=False))}
            for row, declaration in enumerate(declarations)
        ]

    def request(self, coupon_id: str, user_id: str, request_id: str) -> dict[str, Any]:
        """Ask for one coupon for a user.

        The same `request_id` for the same user and coupon is accepted again, and takes no
        second place; that makes an accepted request safe to repeat.

        Returns:
            couponId, userId, requestId and the status "pending".

        Raises:
            UnknownCoupon: the coupon is not registered.
            NotOpen, Closed: it cannot be requested yet, or any more.
            SoldOut: every place is taken.
            Duplicate: another request of the user is pending or issued.
        """
        status, *details = self._admission.admit(Ask(coupon_id, user_id, request_id))
        if status != "accepted":
            raise _refusal(coupon_id, status, details)
        return {
            "couponId": coupon_id,
            "userId": user_id,
            "requestId": request_id,
            "status": "pending",
        }

    def user(self, coupon_id: str, user_id: str) -> dict[str, Any]:
        """Tell what became of a user's request.

        Returns:
            couponId, userId, requestId and status: pending, or issued or expired with issuedAt
            (RFC 3339).

        Raises:
            UnknownCoupon: the coupon is not registered.
            NotRequested: nothing of this user is pending or issued.
        """
        keys = self._keys
        with self._gate, self._client.pipeline(transaction=True) as snapshot:
            snapshot.hmget(keys.coupon(coupon_id), "quantity", "expiresAt")
            snapshot.get(keys.user(coupon_id, user_id))
            snapshot.hget(keys.pending(coupon_id), user_id)
            snapshot.time()
            (quantity, expires_at), mark, pending, time = snapshot.execute()
        if not quantity:
            raise unknown(coupon_id)
        if not mark and not pending:
            raise NotRequested(f"this user has no request for {coupon_id}")
        expired = expires_at and milliseconds(time) >= int(expires_at)
        status = "pending" if not mark else "expired" if expired else "issued"
        return {
            "couponId": coupon_id,
            "userId": user_id,
            "requestId": (mark or pending).partition(" ")[0],
            "status": status,
            **(issuance(mark) if mark else {}),
        }

    def numbers(self, coupon_id: str) -> dict[str, Any]:
        """Count what has happened to a coupon, at one instant; see `numbers.numbers`.

        Raises:
            UnknownCoupon: the coupon is not registered.
        """
        with self._gate, self._client.pipeline(transaction=True) as snapshot:
            look(snapshot, self._keys, coupon_id)
            snapshot.time()
            *replies, time = snapshot.execute()
        answer = numbers(coupon_id, replies, milliseconds(time))
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
        return NotOpen(
            f"{coupon_id} cannot be requested yet",
            math.ceil(int(wait_ms) / 1000),
            opensAt=instant(opens_at),
        )
    if status == "closed":
        return Closed(f"{coupon_id} cannot be requested any more")
    if status == "sold_out":
        return SoldOut(f"every coupon of {coupon_id} is taken")
    state, holder = details
    return Duplicate(
        f"this user's request for {coupon_id} is {state} already",
        requestStatus=state,
        requestId=holder,
    )
