"""What administrators do with the dead letters of all partitions: list, retry, discard.

A dead letter is named `<partition>:<id>`, because two partitions can make the same id.
"""

import json
from collections.abc import Callable
from typing import Any

from coupon_service.admin.scripts import AdminScripts
from coupon_service.errors import CorruptData, NotPending, UnknownDeadLetter, corrupt_data_of
from coupon_service.installation import Installation, Partitions
from coupon_service.scripts import Request
from coupon_service.snapshot import instant, stream_ms

#: What a name is to match in full.
DEAD_LETTER = r"[0-9]{1,4}:[0-9]{1,19}-[0-9]{1,19}"


class DeadLetters:
    """Every method raises `Unavailable` when Redis cannot be used now, and `CorruptData` if the
    stream of dead letters is none."""

    def __init__(self, partitions: Partitions | list[Installation]) -> None:
        self._partitions = partitions

    def page(self, limit: int, after: str = "") -> tuple[list[dict[str, Any]], str]:
        """List dead letters by partition, the oldest first.

        Args:
            limit: how many at the most, 1 or more.
            after: the name after which the page begins; empty for the first page.

        Returns:
            deadLetter (its name), deadAt (RFC 3339, None after the year 9999), entryId, reason and
            fields of each: as far as they can be read, with the reason corrupt_data, of one that is
            broken itself; and the `after` of the next page, empty at the end.
        """
        first, _, last_id = after.partition(":")
        found: list[dict[str, Any]] = []
        for installation in self._partitions:
            number = installation.partition
            if number < int(first or 0):
                continue
            start = f"({last_id}" if after and number == int(first) else "-"
            with corrupt_data_of("the dead letters"), installation.bulkhead:
                client: Any = installation.client
                entries = client.xrange(
                    installation.keys.dead, start, count=limit - len(found)
                )
                found += [_shown(number, dead_id, entry) for dead_id, entry in entries]
            if len(found) == limit:
                break
        return found, found[-1]["deadLetter"] if len(found) == limit else ""

    def retry(self, name: str) -> dict[str, Any]:
        """Put the request of a dead letter on the stream again, once its cause is repaired.

        Returns:
            deadLetter and entryId, the id of its new entry.

        Raises:
            UnknownDeadLetter: there is none of this name.
            NotPending: its request was decided or withdrawn, was never admitted, or its coupon is
                not registered any more.
        """
        status, *details = self._call(AdminScripts.retry, name)
        if status != "retried":
            raise NotPending(f"the request of {name} is pending no more")
        return {"deadLetter": name, "entryId": details[0]}

    def discard(self, name: str) -> dict[str, Any]:
        """Discard a dead letter; a request that is still pending is refused, its place returns.

        Returns:
            deadLetter, and whether a place has returned.

        Raises:
            UnknownDeadLetter: there is none of this name.
        """
        _, returned = self._call(AdminScripts.discard, name)
        return {"deadLetter": name, "placeReturned": bool(returned)}

    def _call(
        self, script: Callable[[AdminScripts, str, Request], list[Any]], name: str
    ) -> list[Any]:
        number, _, dead_id = name.partition(":")
        for installation in self._partitions:
            if installation.partition == int(number):
                break
        else:
            raise _unknown(name)
        client: Any = installation.client
        with corrupt_data_of("this dead letter"), installation.bulkhead:
            entries = client.xrange(installation.keys.dead, dead_id, dead_id)
            if not entries:
                raise _unknown(name)
            shown = _shown(int(number), *entries[0])
            coupon_id, user_id, request_id = (
                shown["fields"].get(key, "") for key in ("couponId", "userId", "requestId")
            )
            request = Request(coupon_id, user_id, request_id, shown["entryId"])
            reply = script(AdminScripts(installation.scripts), dead_id, request)
        if reply == ["unknown_dead_letter"]:
            raise _unknown(name)
        return reply


def _shown(partition: int, dead_id: str, entry: dict[str, str]) -> dict[str, Any]:
    """A dead letter as far as it can be read: one that cannot is to be seen and discarded too."""
    fields = _fields(entry.get("fields", ""))
    intact = fields is not None and "entryId" in entry and "reason" in entry
    try:
        dead_at = instant(stream_ms(dead_id))
    except OverflowError:
        dead_at = None
    return {
        "deadLetter": f"{partition}:{dead_id}",
        "deadAt": dead_at,
        "entryId": entry.get("entryId", ""),
        "reason": entry["reason"] if intact else CorruptData.code,
        "fields": fields or {},
    }


def _fields(text: str) -> dict[str, str] | None:
    """The fields of an entry, which dead_letter.lua was given as JSON; None for anything else."""
    try:
        fields = json.loads(text)
        for value in fields.values():
            value.encode("utf-8", "surrogateescape")  # as the client sends it
    except (ValueError, AttributeError, RecursionError):
        return None
    return dict(fields)


def _unknown(name: str) -> UnknownDeadLetter:
    return UnknownDeadLetter(f"there is no dead letter {name}")
