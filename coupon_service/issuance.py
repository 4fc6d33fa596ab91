"""Turns entries of the request stream into decisions."""

import json
import logging
import re

from redis import Redis
from redis.exceptions import RedisError

from coupon_service.errors import is_corrupt_data
from coupon_service.keys import COUPON_ID, REQUEST_ID, USER_ID
from coupon_service.scripts import Scripts
from coupon_service.stream import Entry

log = logging.getLogger(__name__)

_FIELDS = {
    "couponId": re.compile(COUPON_ID),
    "userId": re.compile(USER_ID),
    "requestId": re.compile(REQUEST_ID),
}


_ONE_WORD = re.compile(r"[!#-<>-~]+")


class Issuance:
    """Decides batches of entries, logs every decision, puts undecidable entries aside."""

    def __init__(self, client: Redis, scripts: Scripts) -> None:
        self._client = client
        self._scripts = scripts

    def decide(self, entries: list[Entry]) -> int:
        """Decide `entries` in one pipeline; safe to call again with the same entries.

        Returns:
            How many were decided or put aside.

        Raises:
            redis.exceptions.RedisError: some entries are not decided; they stay pending.
        """
        defects = {entry.entry_id: _defect(entry) for entry in entries}
        sound = [entry for entry in entries if not defects[entry.entry_id]]
        failure = None
        for entry, verdict in zip(sound, self._verdicts(sound), strict=True):
            if not isinstance(verdict, RedisError):
                _, decision = verdict
                log.info("%s", _line(entry, decision))
            elif is_corrupt_data(verdict):
                self._put_aside(entry, str(verdict))
            else:
                failure = verdict
        for entry in entries:
            if reason := defects[entry.entry_id]:
                self._put_aside(entry, reason)
        if failure:
            raise failure
        return len(entries)

    def _verdicts(self, entries: list[Entry]) -> list[tuple[int, str] | RedisError]:
        if not entries:
            return []
        with self._client.pipeline(transaction=False) as pipeline:
            for entry in entries:
                fields = entry.fields
                self._scripts.issue(
                    pipeline,
                    fields["couponId"],
                    fields["userId"],
                    _request_id(entry),
                    entry.entry_id,
                )
            return pipeline.execute(raise_on_error=False)

    def _put_aside(self, entry: Entry, reason: str) -> None:
        if self._scripts.dead_letter(entry.entry_id, entry.fields, reason):
            log.error("dead letter entryId=%s reason=%s", entry.entry_id, json.dumps(reason))


def _request_id(entry: Entry) -> str:
    """Other producers need not give a request id: the entry id serves as well."""
    return entry.fields.get("requestId", entry.entry_id)


def _defect(entry: Entry) -> str | None:
    """Say why an entry can never be decided, or None."""
    if not entry.fields:
        return "the entry was deleted from the stream"
    for name, pattern in _FIELDS.items():
        value = entry.fields.get(name)
        if value is None and name != "requestId":
            return f"{name} is missing"
        if value is not None and not pattern.fullmatch(value):
            return f"{name} is not valid"
    return None


def _line(entry: Entry, decision: str) -> str:
    """One decision as key=value; a value that would not read as one word is quoted."""
    values = {
        "couponId": entry.fields["couponId"],
        "userId": entry.fields["userId"],
        "requestId": _request_id(entry),
        "decision": decision,
    }
    return " ".join(
        f"{name}={value if _ONE_WORD.fullmatch(value) else json.dumps(value)}"
        for name, value in values.items()
    )
