"""The scripts of the worker, each with a method that gives its reply a type."""

import json
from collections.abc import Sequence
from itertools import chain

from redis.exceptions import RedisError

from coupon_service.keys import GROUP
from coupon_service.scripts import Call, Request, Scripts

#: Lines that one call trims from the log: while it does, Redis does nothing else.
PAGE = 500


class WorkerScripts:
    """Every method raises `redis.exceptions.RedisError`, as those of `Scripts` do."""

    def __init__(self, scripts: Scripts) -> None:
        self._scripts, self._keys = scripts, scripts.keys

    def issue(self, requests: Sequence[Request]) -> list[tuple[int, str] | RedisError]:
        """Decide entries of the stream.

        Returns:
            For each, in order: [verdict, decision], 0 no stock, 1 issued, 2 the user has one
            already, and the word for it; or the error that the entries for this coupon have met.
        """
        keys = self._keys

        def call(coupon_id: str, requests: list[Request]) -> Call:
            return [
                keys.stock(coupon_id),
                keys.requested(coupon_id),
                keys.pending(coupon_id),
                keys.coupon(coupon_id),
                keys.requests,
                keys.log,
                keys.issuances(coupon_id),
                keys.series(coupon_id),
                *(keys.user(coupon_id, request.user_id) for request in requests),
            ], [coupon_id, GROUP, *chain.from_iterable(request[1:] for request in requests)]

        replies, _ = self._scripts.call_by_coupon("issue", requests, call)
        return replies

    def dead_letter(self, entry_id: str, fields: dict[str, str], reason: str) -> bool:
        """Move an entry to the stream of dead letters, its fields as JSON.

        Returns:
            False if the entry was gone already.
        """
        names = [self._keys.requests, self._keys.dead]
        args = [GROUP, entry_id, reason, json.dumps(fields)]
        return bool(self._scripts.call("dead_letter", names, args))

    def trim(self, keep: int) -> bool:
        """Trim a page of the log, but for its newest `keep` lines and what a consumer group needs.

        Returns:
            Whether there may be more to trim.
        """
        names = [self._keys.log, self._keys.trimmed]
        return bool(self._scripts.call("trim", names, [keep, PAGE]) == PAGE)

    def remove_consumer(self, consumer: str) -> bool:
        """Remove a consumer from the group unless it holds entries.

        Returns:
            False if it holds some.
        """
        names, args = [self._keys.requests], [GROUP, consumer]
        return bool(self._scripts.call("remove_consumer", names, args))

    def remove(
        self, coupon_id: str, pending: dict[str, str], issued: list[tuple[str, str]]
    ) -> str:
        """Remove a page of a coupon, if it is due.

        Args:
            pending: userId to pending mark.
            issued: the id of the line in the log and the userId of each issuance.

        Returns:
            removed, removing if something is left, or not_due.
        """
        keys = self._keys
        [status] = self._scripts.call("remove", [
            keys.coupon(coupon_id),
            keys.stock(coupon_id),
            keys.requested(coupon_id),
            keys.pending(coupon_id),
            keys.issuances(coupon_id),
            keys.coupons,
            keys.removals,
            keys.requests,
            keys.log,
            keys.series(coupon_id),
            *(keys.user(coupon_id, user_id) for _, user_id in issued),
        ], [
            coupon_id, GROUP, len(pending), *chain.from_iterable(pending.items()),
            *(line for line, _ in issued),
        ])
        return str(status)

    def migrate(self, coupon_id: str) -> None:
        """Convert a coupon of format 1, but for its issuance marks; see migration.py."""
        keys = self._keys
        self._scripts.call("migrate", [
            keys.coupons,
            keys.migrated,
            keys.removals,
            keys.coupon(coupon_id),
            keys.stock(coupon_id),
            keys.requested(coupon_id),
            keys.pending(coupon_id),
            keys.issuances(coupon_id),
        ], [coupon_id])
