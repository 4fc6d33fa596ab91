"""The only door to `lua/`: one typed method for each script."""

import json
from collections.abc import Callable, Sequence
from importlib import resources
from itertools import chain
from typing import Any, NamedTuple, TypeVar, cast

from redis import Redis
from redis.commands.core import Script
from redis.exceptions import NoScriptError, RedisError

from coupon_service.keys import GROUP, Keys


class Declaration(NamedTuple):
    """What is registered: a quantity of 1 or more, and what of the window is to change.

    `window` maps opensAt, closesAt and expiresAt to milliseconds since 1970, or to None for
    none; a name that is missing stays as it is.
    """

    coupon_id: str
    quantity: int
    window: dict[str, int | None] = {}


class Ask(NamedTuple):
    """A user who asks for a coupon; ids have matched the patterns in `keys`."""

    coupon_id: str
    user_id: str
    request_id: str


class Request(NamedTuple):
    """An entry of the request stream that can be decided."""

    coupon_id: str
    user_id: str
    request_id: str
    entry_id: str


#: The keys and the arguments of one call of a script.
_Call = tuple[list[str], list[str | int]]
_Item = TypeVar("_Item", Ask, Request)


class Scripts:
    """The scripts of one installation; each runs atomically on the server.

    `retention` is the number of seconds for which a coupon is kept after it has expired.
    Every method raises `redis.exceptions.RedisError`: a connection error or an error reply.
    """

    def __init__(self, client: Redis, keys: Keys, retention: float) -> None:
        self.keys = keys
        self._client = client
        self._retention_ms = int(retention * 1000)

        def script(name: str) -> Script:
            source = resources.files("coupon_service") / "lua" / f"{name}.lua"
            return client.register_script(source.read_text(encoding="utf-8"))

        self._register = script("register")
        self._admit = script("admit")
        self._issue = script("issue")
        self._cancel = script("cancel")
        self._close = script("close")
        self._delete = script("delete")
        self._forget = script("forget")
        self._dead_letter = script("dead_letter")
        self._remove_consumer = script("remove_consumer")
        self._requeue = script("requeue")

    def register(self, declarations: list[Declaration]) -> list[Any]:
        """Declare coupons, all of them or none.

        Returns:
            [registered], then quantity, stock and requested of each as they are afterwards; or
            [quantity_too_low or invalid_window, couponId, quantity, requested] of the first one
            that is refused.
        """
        keys = self.keys
        names: list[str] = [keys.coupons]
        values: list[str | int] = [self._retention_ms]
        for coupon_id, quantity, window in declarations:
            names += [
                keys.coupon(coupon_id),
                keys.stock(coupon_id),
                keys.requested(coupon_id),
                keys.pending(coupon_id),
                keys.issuances(coupon_id),
            ]
            values += [coupon_id, keys.user(coupon_id, ""), quantity]
            for name in ("opensAt", "closesAt", "expiresAt"):
                instant = window.get(name, "")
                values.append("none" if instant is None else instant)
        return cast("list[Any]", self._register(keys=names, args=values))

    def admit(self, asks: Sequence[Ask]) -> list[list[str] | RedisError]:
        """Take a place for each user and put the request on the stream.

        Returns:
            For each, in order: [accepted], [sold_out], [closed], [unknown_coupon],
            [not_open, opensAt (ms), ms until then],
            [duplicate, pending or issued, request id that holds the place], or the error that
            the requests for this coupon have met.
        """
        keys = self.keys

        def call(coupon_id: str, asks: list[Ask]) -> _Call:
            return [
                keys.coupon(coupon_id),
                keys.requested(coupon_id),
                keys.pending(coupon_id),
                keys.requests,
                *(keys.user(coupon_id, ask.user_id) for ask in asks),
            ], [coupon_id, self._retention_ms, *chain.from_iterable(ask[1:] for ask in asks)]

        return self._by_coupon(self._admit, asks, call)

    def issue(self, requests: Sequence[Request]) -> list[tuple[int, str] | RedisError]:
        """Decide entries of the stream.

        Returns:
            For each, in order: [verdict, decision], 0 no stock, 1 issued, 2 the user has one
            already, and the word for it; or the error that the entries for this coupon have met.
        """
        keys = self.keys

        def call(coupon_id: str, requests: list[Request]) -> _Call:
            return [
                keys.stock(coupon_id),
                keys.requested(coupon_id),
                keys.pending(coupon_id),
                keys.coupon(coupon_id),
                keys.requests,
                keys.log,
                keys.issuances(coupon_id),
                *(keys.user(coupon_id, request.user_id) for request in requests),
            ], [coupon_id, GROUP, self._retention_ms,
                *chain.from_iterable(request[1:] for request in requests)]

        return self._by_coupon(self._issue, requests, call)

    def _by_coupon(
        self, script: Script, items: Sequence[_Item], call: Callable[[str, list[_Item]], _Call]
    ) -> list[Any]:
        """Call `script` for the items of each coupon, all in one round trip; give the replies to
        the items in their order, the error of a call to each of its items."""
        rows: dict[str, list[int]] = {}
        for row, item in enumerate(items):
            rows.setdefault(item.coupon_id, []).append(row)
        calls = [call(coupon_id, [items[row] for row in rows[coupon_id]]) for coupon_id in rows]
        with self._client.pipeline(transaction=False) as pipeline:
            for keys, args in calls:
                pipeline.evalsha(script.sha, len(keys), *keys, *map(str, args))
            replies = pipeline.execute(raise_on_error=False)
        if any(isinstance(reply, NoScriptError) for reply in replies):
            # Never seen by this server, or forgotten: those that it has run run once more.
            self._client.script_load(script.script)
            return self._by_coupon(script, items, call)
        given: list[Any] = [None] * len(items)
        for its_rows, reply in zip(rows.values(), replies, strict=True):
            each = reply if isinstance(reply, list) else [reply] * len(its_rows)
            for row, answer in zip(its_rows, each, strict=True):
                given[row] = answer
        return given

    def cancel(self, coupon_id: str, user_id: str) -> list[str]:
        """Take a user's coupon or pending request back.

        Returns:
            [cancelled, pending or issued, request id], [not_requested] or [unknown_coupon].
        """
        keys = self.keys
        reply: Any = self._cancel(
            keys=[
                keys.stock(coupon_id),
                keys.user(coupon_id, user_id),
                keys.requested(coupon_id),
                keys.pending(coupon_id),
                keys.requests,
                keys.log,
                keys.issuances(coupon_id),
                keys.coupon(coupon_id),
            ],
            args=[coupon_id, user_id, GROUP],
        )
        return cast("list[str]", reply)

    def close(self, coupon_id: str) -> list[str]:
        """Close a coupon now.

        Returns:
            [closed, closesAt (ms)] or [unknown_coupon].
        """
        return cast("list[str]", self._close(keys=[self.keys.coupon(coupon_id)]))

    def delete(self, coupon_id: str) -> list[Any]:
        """End a coupon and remove all its keys.

        Returns:
            [deleted, number that was issued, number that was pending] or [unknown_coupon].
        """
        keys = self.keys
        reply: Any = self._delete(
            keys=[
                keys.coupon(coupon_id),
                keys.stock(coupon_id),
                keys.requested(coupon_id),
                keys.pending(coupon_id),
                keys.issuances(coupon_id),
                keys.coupons,
                keys.requests,
                keys.log,
            ],
            args=[coupon_id, keys.user(coupon_id, ""), GROUP],
        )
        return cast("list[Any]", reply)

    def forget(self, coupon_id: str) -> bool:
        """Take a coupon that has vanished by its expiry out of the set of coupons.

        Returns:
            False if it is registered, or was not in the set.
        """
        keys = self.keys
        return bool(self._forget(keys=[keys.coupons, keys.coupon(coupon_id)], args=[coupon_id]))

    def dead_letter(self, entry_id: str, fields: dict[str, str], reason: str) -> bool:
        """Move an entry to the stream of dead letters, its fields as JSON.

        Returns:
            False if the entry was gone already.
        """
        reply: Any = self._dead_letter(
            keys=[self.keys.requests, self.keys.dead],
            args=[GROUP, entry_id, reason, json.dumps(fields)],
        )
        return bool(reply)

    def remove_consumer(self, consumer: str) -> bool:
        """Remove a consumer from the group unless it holds entries.

        Returns:
            False if it holds some.
        """
        reply: Any = self._remove_consumer(keys=[self.keys.requests], args=[GROUP, consumer])
        return bool(reply)

    def requeue(self, coupon_id: str, user_id: str, request_id: str) -> bool:
        """Put an admitted request on the stream again, whose entry was lost.

        Returns:
            False if the request is not pending any more.
        """
        reply: Any = self._requeue(
            keys=[self.keys.pending(coupon_id), self.keys.requests],
            args=[coupon_id, user_id, request_id],
        )
        return bool(reply)
