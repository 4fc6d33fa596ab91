"""What can be asked of a coupon: register, request, numbers and the status of a user."""

from datetime import UTC, datetime
from typing import Any

from redis import Redis

from coupon_service.errors import (
    Duplicate,
    NotRequested,
    QuantityTooLow,
    SoldOut,
    UnknownCoupon,
)
from coupon_service.keys import Keys
from coupon_service.outage import Gate
from coupon_service.scripts import Scripts

#: Reasons for which a request can be refused; each is a counter in the coupon's hash.
REFUSALS = ("duplicate", "sold_out")


class Coupons:
    """The coupons of one installation. Ids have matched the patterns in `keys`.

    Every method is one round trip, and raises `Unavailable` when Redis cannot be used now.
    """

    def __init__(self, client: Redis, keys: Keys) -> None:
        self._client = client
        self._keys = keys
        self._scripts = Scripts(client, keys)
        self._gate = Gate()

    def register(self, coupon_id: str, quantity: int) -> dict[str, Any]:
        """Declare that `quantity` coupons may be issued, 1 or more.

        A declaration can be repeated, and raised while the coupon is being issued.

        Returns:
            couponId, quantity, stock and requested as they are afterwards.

        Raises:
            QuantityTooLow: more places are taken; nothing was changed.
        """
        with self._gate:
            status, declared, stock, requested = self._scripts.register(coupon_id, quantity)
        if status == "quantity_too_low":
            raise QuantityTooLow(
                f"{requested} places are taken, so the quantity cannot be {quantity}",
                quantity=declared,
                requested=requested,
            )
        return {
            "couponId": coupon_id,
            "quantity": declared,
            "stock": stock,
            "requested": requested,
        }

    def request(self, coupon_id: str, user_id: str, request_id: str) -> dict[str, Any]:
        """Ask for one coupon for a user.

        The same `request_id` for the same user and coupon is accepted again, and takes no
        second place; that makes an accepted request safe to repeat.

        Returns:
            couponId, userId, requestId and the status "pending".

        Raises:
            UnknownCoupon: the coupon is not registered.
            SoldOut: every place is taken.
            Duplicate: another request of the user is pending or issued.
        """
        with self._gate:
            status, *held = self._scripts.admit(coupon_id, user_id, request_id)
        if status == "unknown_coupon":
            raise _unknown(coupon_id)
        if status == "sold_out":
            raise SoldOut(f"every coupon of {coupon_id} is taken")
        if status == "duplicate":
            state, holder = held
            raise Duplicate(
                f"this user's request for {coupon_id} is {state} already",
                requestStatus=state,
                requestId=holder,
            )
        return {
            "couponId": coupon_id,
            "userId": user_id,
            "requestId": request_id,
            "status": "pending",
        }

    def user(self, coupon_id: str, user_id: str) -> dict[str, Any]:
        """Tell what became of a user's request.

        Returns:
            couponId, userId, requestId and status: pending, or issued with issuedAt
            (RFC 3339).

        Raises:
            UnknownCoupon: the coupon is not registered.
            NotRequested: nothing of this user is pending or issued.
        """
        keys = self._keys
        with self._gate, self._client.pipeline(transaction=True) as snapshot:
            snapshot.exists(keys.coupon(coupon_id))
            snapshot.get(keys.user(coupon_id, user_id))
            snapshot.hget(keys.pending(coupon_id), user_id)
            registered, mark, pending = snapshot.execute()
        if not registered:
            raise _unknown(coupon_id)
        answer = {"couponId": coupon_id, "userId": user_id}
        if mark:
            request_id, _, log_id = mark.partition(" ")
            answer |= {"requestId": request_id, "status": "issued"}
            if log_id:  # marks of other systems have none
                # A stream id begins with the server's clock in milliseconds.
                answer["issuedAt"] = _instant(log_id.partition("-")[0])
            return answer
        if pending:
            return {**answer, "requestId": pending, "status": "pending"}
        raise NotRequested(f"this user has no request for {coupon_id}")

    def numbers(self, coupon_id: str) -> dict[str, Any]:
        """Count what has happened to a coupon, at one instant.

        Returns:
            couponId, quantity, stock, requested, issued, pending, registeredAt (RFC 3339)
            and refusals by reason.

        Raises:
            UnknownCoupon: the coupon is not registered.
        """
        keys = self._keys
        with self._gate, self._client.pipeline(transaction=True) as snapshot:
            snapshot.hgetall(keys.coupon(coupon_id))
            snapshot.get(keys.stock(coupon_id))
            snapshot.get(keys.requested(coupon_id))
            snapshot.hlen(keys.pending(coupon_id))
            coupon, stock, requested, pending = snapshot.execute()
        if not coupon:
            raise _unknown(coupon_id)
        quantity = int(coupon["quantity"])
        return {
            "couponId": coupon_id,
            "quantity": quantity,
            "stock": int(stock),
            "requested": int(requested),
            "issued": quantity - int(stock),
            "pending": pending,
            "registeredAt": _instant(coupon["registeredAt"]),
            "refusals": {reason: int(coupon.get(reason, 0)) for reason in REFUSALS},
        }


def _instant(ms: str) -> str:
    """RFC 3339 of an instant given in milliseconds since 1970."""
    instant = datetime.fromtimestamp(int(ms) / 1000, UTC)
    return instant.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _unknown(coupon_id: str) -> UnknownCoupon:
    return UnknownCoupon(f"no coupon {coupon_id} is registered")
