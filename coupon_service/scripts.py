"""The only door to `lua/`: loads the scripts, calls them, and gives their replies a type."""

from collections.abc import Callable, Sequence
from functools import cache
from importlib import resources
from itertools import chain
from typing import Any, NamedTuple

from redis import Redis
from redis.commands.core import Script
from redis.exceptions import NoScriptError, RedisError, ResponseError

from coupon_service.config import Config
from coupon_service.keys import Keys
from coupon_service.own_connection import Command, OwnConnection

#: What of a coupon's window can be registered, in the order of register.lua's arguments.
WINDOW = ("opensAt", "closesAt", "expiresAt")


class Registration(NamedTuple):
    """A coupon to register: a quantity of 1 or more, and what of the window is to change.

    `window` maps opensAt, closesAt and expiresAt to milliseconds since 1970, or to None for
    none; a name that is missing stays as it is.
    """

    coupon_id: str
    quantity: int
    window: dict[str, int | None] = {}


class Request(NamedTuple):
    """A user's request for a coupon; ids have matched the patterns in `keys`.

    `entry_id` is the id of its entry on the request stream; empty before it is admitted.
    """

    coupon_id: str
    user_id: str
    request_id: str
    entry_id: str = ""


#: The keys and the arguments of one call of a script.
Call = tuple[list[str], list[str | int]]


@cache
def source(name: str) -> str:
    """Return the text of the script `lua/{name}.lua`, with the prelude before it."""
    folder = resources.files("coupon_service") / "lua"
    texts = ((folder / f"{part}.lua").read_text(encoding="utf-8") for part in ("prelude", name))
    return "\n".join(texts)


class Scripts:
    """Calls the scripts on one server, where each runs atomically.

    Every method here and in the classes that use it raises `redis.exceptions.RedisError`: a
    connection error, or an error reply.
    """

    def __init__(
        self, client: Redis, keys: Keys, connection: OwnConnection | None = None
    ) -> None:
        """With a `connection` of their own, the scripts can be called by one thread at a time."""
        self.keys = keys
        self._client = client
        self._round_trip = connection.round_trip if connection else self._pooled
        self._registered: dict[str, Script] = {}

    def call(self, name: str, keys: list[str], args: Sequence[str | int] = ()) -> Any:
        """Run the script `name` and return its reply."""
        [reply], _ = self._run(name, [(keys, list(args))])
        if isinstance(reply, RedisError):
            raise reply
        return reply

    def call_by_coupon(
        self, name: str, requests: Sequence[Request], call: Callable[[str, list[Request]], Call],
        wait: tuple[int, int] | None = None,
    ) -> tuple[list[Any], Any]:
        """Run a script that takes many requests for one coupon, for all coupons in one round trip.

        Args:
            requests: for any coupons, in any order.
            call: makes the keys and arguments for the requests for one coupon.
            wait: arguments of a WAIT after the calls: number of replicas, milliseconds.

        Returns:
            The reply to each request, in their order, where the call for a coupon failed, the
            error for each of its requests; and the reply to WAIT, or None.
        """
        rows: dict[str, list[int]] = {}
        for row, request in enumerate(requests):
            rows.setdefault(request.coupon_id, []).append(row)
        calls = [call(coupon_id, [requests[row] for row in rows[coupon_id]]) for coupon_id in rows]
        replies, replicas = self._run(name, calls, wait)
        given: list[Any] = [None] * len(requests)
        for its_rows, reply in zip(rows.values(), replies, strict=True):
            each = reply if isinstance(reply, list) else [reply] * len(its_rows)
            for row, answer in zip(its_rows, each, strict=True):
                given[row] = answer
        return given, replicas

    def _run(
        self, name: str, calls: list[Call], wait: tuple[int, int] | None = None
    ) -> tuple[list[Any], Any]:
        """Make the calls in one round trip; return the reply or the error of each, and of WAIT."""
        script = self._script(name)
        commands: list[Command] = [
            ("EVALSHA", script.sha, len(keys), *keys, *args) for keys, args in calls
        ]
        if wait:
            commands.append(("WAIT", *wait))
        replies = self._round_trip(commands)
        if any(isinstance(reply, NoScriptError) for reply in replies):
            # New to this server, or flushed: the calls that it did run are repeated. Together with
            # them, because another connection may lead to another server after a fail-over.
            loaded, *replies = self._round_trip([("SCRIPT LOAD", source(name)), *commands])
            if isinstance(loaded, RedisError):
                raise loaded
        return replies[:len(calls)], replies[-1] if wait else None

    def _pooled(self, commands: list[Command]) -> list[Any]:
        client: Any = self._client
        with client.pipeline(transaction=False) as pipeline:
            for command in commands:
                pipeline.execute_command(*command)
            replies: list[Any] = pipeline.execute(raise_on_error=False)
        return replies

    def _script(self, name: str) -> Script:
        if name not in self._registered:
            self._registered[name] = self._client.register_script(source(name))
        return self._registered[name]


class CouponScripts:
    """The scripts behind the two endpoints of users and front ends."""

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
        reply: list[Any] = self._scripts.call("register", names, values)
        return reply

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
