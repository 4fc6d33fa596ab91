"""The only door to `lua/`: loads the scripts and calls them."""

from collections.abc import Callable, Sequence
from functools import cache
from importlib import resources
from typing import Any, NamedTuple

from redis import Redis
from redis.commands.core import Script
from redis.exceptions import NoScriptError, RedisError

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

    def call(self, name: str, keys: list[str], args: Sequence[str | int]) -> Any:
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
