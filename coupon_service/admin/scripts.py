"""The scripts of administrators, each with a method that gives its reply a type."""

from collections.abc import Mapping
from typing import Any

from coupon_service.keys import GROUP
from coupon_service.scripts import Request, Scripts


class AdminScripts:
    """Every method raises `redis.exceptions.RedisError`, as those of `Scripts` do."""

    def __init__(self, scripts: Scripts) -> None:
        self._scripts, self._keys = scripts, scripts.keys

    def close(self, coupon_id: str) -> list[str]:
        """Close a coupon now.

        Returns:
            [closed, closesAt (ms)] or [unknown_coupon].
        """
        keys = self._keys
        names = [keys.coupon(coupon_id), keys.log]
        return list(self._scripts.call("close", names, [coupon_id]))

    def cancel(self, coupon_id: str, user_id: str, request_id: str) -> list[str]:
        """Cancel a user's issuance, or withdraw the pending request.

        Args:
            request_id: the request that is meant; empty for whichever the user has.

        Returns:
            [cancelled, pending or issued, request id], [not_requested] or [unknown_coupon].
        """
        keys = self._keys
        return list(self._scripts.call("cancel", [
            keys.stock(coupon_id),
            keys.user(coupon_id, user_id),
            keys.requested(coupon_id),
            keys.pending(coupon_id),
            keys.requests,
            keys.log,
            keys.issuances(coupon_id),
            keys.coupon(coupon_id),
            keys.series(coupon_id),
        ], [coupon_id, user_id, GROUP, request_id]))

    def delete(self, coupon_id: str) -> list[Any]:
        """Delete a coupon; its records are removed afterwards, a page at a time.

        Returns:
            [deleted, number that was issued, number that was pending] or [unknown_coupon].
        """
        keys = self._keys
        return list(self._scripts.call("delete", [
            keys.coupon(coupon_id),
            keys.pending(coupon_id),
            keys.issuances(coupon_id),
            keys.coupons,
            keys.removals,
            keys.log,
        ], [coupon_id]))

    def requeue(self, coupon_id: str, user_id: str, mark: str) -> bool:
        """Put an admitted request on the stream again, whose entry no worker will read any more.

        Args:
            mark: the pending mark of the user.

        Returns:
            False if the request was decided meanwhile.
        """
        keys = self._keys
        names = [keys.coupon(coupon_id), keys.pending(coupon_id), keys.requests]
        return bool(self._scripts.call("requeue", names, [coupon_id, user_id, mark, GROUP]))

    def retry(self, dead_id: str, request: Request) -> list[str]:
        """Put the request of a dead letter, which names the entry that became it, on the stream
        again.

        Returns:
            [retried, id of the new entry], [unknown_dead_letter], [unknown_coupon] or
            [not_pending].
        """
        keys, coupon_id = self._keys, request.coupon_id
        names = [keys.dead, keys.requests, keys.coupon(coupon_id), keys.pending(coupon_id)]
        return list(self._scripts.call("retry", names, [dead_id, *request]))

    def discard(self, dead_id: str, request: Request) -> list[Any]:
        """Discard a dead letter, and refuse its request if that is pending.

        Returns:
            [discarded, 1 if a place has returned], or [unknown_dead_letter].
        """
        keys, coupon_id = self._keys, request.coupon_id
        return list(self._scripts.call("discard", [
            keys.dead,
            keys.coupon(coupon_id),
            keys.requested(coupon_id),
            keys.pending(coupon_id),
            keys.log,
        ], [dead_id, *request]))

    def observe(self, after: str | None, last: str, counted: Mapping[str, int]) -> None:
        """Add times of decisions, unless another process has added those of these lines.

        Args:
            after: id of the line of the log after which they were counted; None: the first.
            last: id of the last one.
            counted: by field of the hash of decision times, what is added to it.
        """
        args: list[str | int] = [after or "", last]
        for field, number in counted.items():
            args += [field, number]
        self._scripts.call("observe", [self._keys.decision_times], args)
