"""The scripts behind the endpoints of users and front ends, each with a method that gives its
reply a type."""

from collections.abc import Sequence
from itertools import chain
from typing import Any

from redis.exceptions import RedisError, ResponseError

from coupon_service.config import Config
from coupon_service.scripts import WINDOW, Call, Registration, Request, Scripts


class CouponScripts:
    """Every method raises `redis.exceptions.RedisError`, as those of `Scripts` do."""

    def __init__(self, scripts: Scripts, config: Config) -> None:
        self._scripts, self._keys = scripts, scripts.keys
        self._retention_ms = int(config.retention * 1000)
        self._replicas = config.replicas
        self._wait = (config.replicas, int(config.replicas_timeout * 1000))

    def register(
        self, registrations: Sequence[Registration], only_check: bool = False
    ) -> list[Any]:
        """Register coupons, all of them or none.

        Args:
            only_check: whether nothing is changed: what is returned says whether it could be.

        Returns:
            [registered], then quantity, stock and requested of each as they are afterwards; or
            [quantity_too_low, invalid_window or being_removed, couponId, quantity, requested] of
            the first one that is refused.
        """
        keys = self._keys
        names = [keys.coupons, keys.removals, keys.requests, keys.log]
        values: list[str | int] = [self._retention_ms, int(only_check)]
        for coupon_id, quantity, window in registrations:
            names += [keys.coupon(coupon_id), keys.stock(coupon_id), keys.requested(coupon_id),
                      keys.series(coupon_id)]
            values += [coupon_id, quantity]
            for name in WINDOW:
                instant = window.get(name, "")
                values.append("none" if instant is None else instant)
        return list(self._scripts.call("register", names, values))

    def admit(self, requests: Sequence[Request]) -> list[list[str] | RedisError]:
        """Take a place for each request and put it on the stream.

        Returns:
            For each, in order: [accepted], [sold_out], [closed], [unknown_coupon],
            [not_open, opensAt (ms), ms until then],
            [duplicate, pending or issued, request id that holds the place], or the error that
            the requests for this coupon have met: also when it was accepted, and fewer replicas
            have that than must.
        """
        keys = self._keys

        def call(coupon_id: str, requests: list[Request]) -> Call:
            return [
                keys.coupon(coupon_id),
                keys.requested(coupon_id),
                keys.pending(coupon_id),
                keys.requests,
                *(keys.user(coupon_id, request.user_id) for request in requests),
            ], [coupon_id, *chain.from_iterable(request[1:3] for request in requests)]

        wait = self._wait if self._replicas else None
        replies, replicas = self._scripts.call_by_coupon("admit", requests, call, wait)
        if not wait or isinstance(replicas, int) and replicas >= self._replicas:
            return replies
        error = ResponseError(f"NOREPLICAS {replicas} replicas, not {self._replicas}, have it")
        return [error if reply == ["accepted"] else reply for reply in replies]

    def status(self, requests: Sequence[Request]) -> list[list[Any] | RedisError]:
        """Read what has become of the request of each user; its requestId is not looked at.

        Returns:
            For each, in order: [unknown_coupon], [not_requested], [pending, issued or expired,
            the mark that says so, the instant of this (ms)], or the error that was met.
        """
        keys = self._keys

        def call(coupon_id: str, requests: list[Request]) -> Call:
            users = [request.user_id for request in requests]
            return [
                keys.coupon(coupon_id), keys.pending(coupon_id),
                *(keys.user(coupon_id, user_id) for user_id in users),
            ], list(users)

        return self._scripts.call_by_coupon("status", requests, call)[0]
