"""The only door to `lua/`: one typed method for each script."""

import json
from importlib import resources
from typing import Any, cast

from redis import Redis
from redis.client import Pipeline
from redis.commands.core import Script

from coupon_service.keys import GROUP, Keys


class Scripts:
    """The scripts of one installation; each runs atomically on the server.

    Every method raises `redis.exceptions.RedisError`: a connection error or an error reply.
    """

    def __init__(self, client: Redis, keys: Keys) -> None:
        self.keys = keys

        def script(name: str) -> Script:
            source = resources.files("coupon_service") / "lua" / f"{name}.lua"
            return client.register_script(source.read_text(encoding="utf-8"))

        self._register = script("register")
        self._admit = script("admit")
        self._issue = script("issue")
        self._dead_letter = script("dead_letter")
        self._remove_consumer = script("remove_consumer")
        self._requeue = script("requeue")

    def register(self, coupon_id: str, quantity: int) -> tuple[str, int, int, int]:
        """Declare a coupon.

        Returns:
            (status, quantity, stock, requested) as they are afterwards; status is
            registered, unchanged, changed or quantity_too_low.
        """
        keys = self.keys
        reply: Any = self._register(
            keys=[
                keys.coupon(coupon_id),
                keys.stock(coupon_id),
                keys.requested(coupon_id),
                keys.coupons,
            ],
            args=[coupon_id, quantity],
        )
        return cast("tuple[str, int, int, int]", tuple(reply))

    def admit(self, coupon_id: str, user_id: str, request_id: str) -> list[str]:
        """Take a place for the user and put the request on the stream.

        Returns:
            [accepted], [sold_out], [unknown_coupon], or
            [duplicate, pending or issued, request id that holds the place].
        """
        keys = self.keys
        reply: Any = self._admit(
            keys=[
                keys.coupon(coupon_id),
                keys.requested(coupon_id),
                keys.user(coupon_id, user_id),
                keys.pending(coupon_id),
                keys.requests,
            ],
            args=[coupon_id, user_id, request_id],
        )
        return cast("list[str]", reply)

    def issue(
        self, pipeline: Pipeline, coupon_id: str, user_id: str, request_id: str, entry_id: str
    ) -> None:
        """Queue the decision of one entry on `pipeline`; its result will be the verdict:
        0 no stock, 1 issued, 2 the user has one already."""
        keys = self.keys
        self._issue(
            keys=[
                keys.stock(coupon_id),
                keys.user(coupon_id, user_id),
                keys.requested(coupon_id),
                keys.pending(coupon_id),
                keys.coupon(coupon_id),
                keys.requests,
                keys.log,
            ],
            args=[coupon_id, user_id, request_id, entry_id, GROUP],
            client=pipeline,
        )

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
