"""Entries of the request stream become decisions."""

import json
import logging
import re

from redis.exceptions import RedisError

from coupon_service.errors import is_corrupt_data
from coupon_service.keys import COUPON_ID, REQUEST_ID, USER_ID
from coupon_service.scripts import Request
from coupon_service.stream import Entry
from coupon_service.worker_scripts import WorkerScripts

log = logging.getLogger(__name__)

_FIELDS = {
    "couponId": re.compile(COUPON_ID),
    "userId": re.compile(USER_ID),
    "requestId": re.compile(REQUEST_ID),
}


_LINE = "couponId=%s userId=%s requestId=%s decision=%s"
_ONE_WORD = re.compile(r"[!#-<>-~]+")


class Decisions:
    """Decides batches of entries and logs every decision; what is undecidable is a dead letter."""

    def __init__(self, scripts: WorkerScripts) -> None:
        self._scripts = scripts

    def decide(self, entries: list[Entry]) -> int:
        """Decide `entries` together; safe to call again with the same entries.

        Returns:
            How many were decided or became dead letters.

        Raises:
            redis.exceptions.RedisError: some entries are not decided; they stay pending.
        """
        defects = {entry.entry_id: _defect(entry) for entry in entries}
        sound = [entry for entry in entries if not defects[entry.entry_id]]
        requests = [_request(entry) for entry in sound]
        verdicts = self._scripts.issue(requests) if sound else []
        failure = None
        for entry, request, verdict in zip(sound, requests, verdicts, strict=True):
            if isinstance(verdict, RedisError) and is_corrupt_data(verdict) and len(sound) > 1:
                # Another entry of the batch may be at fault: they were decided together.
                [verdict] = self._scripts.issue([request])
            if not isinstance(verdict, RedisError):
                log.info(_LINE, *_words(request), verdict[1])
            elif is_corrupt_data(verdict):
                self._dead_letter(entry, str(verdict))
            else:
                failure = verdict
        for entry in entries:
            if reason := defects[entry.entry_id]:
                self._dead_letter(entry, reason)
        if failure:
            raise failure
        return len(entries)

    def _dead_letter(self, entry: Entry, reason: str) -> None:
        entry_id = entry.entry_id
        try:
            if self._scripts.dead_letter(entry_id, entry.fields, reason):
                log.error("dead letter entryId=%s reason=%s", entry_id, json.dumps(reason))
        except RedisError as error:
            if not is_corrupt_data(error):
                raise
            # The stream of dead letters is none. The entry stays pending and is claimed again
            # later, because to wait here would hold up all others.
            log.error("no dead letter entryId=%s error=%s", entry_id, error)


def _request(entry: Entry) -> Request:
    fields = entry.fields
    # Other producers need not give a request id: the entry id serves as well.
    request_id = fields.get("requestId", entry.entry_id)
    return Request(fields["couponId"], fields["userId"], request_id, entry.entry_id)


def _defect(entry: Entry) -> str | None:
    """Return why an entry can never be decided, or None."""
    if not entry.fields:
        return "the entry was deleted from the stream"
    for name, pattern in _FIELDS.items():
        value = entry.fields.get(name)
        if value is None and name != "requestId":
            return f"{name} is missing"
        if value is not None and not pattern.fullmatch(value):
            return f"{name} is not valid"
    return None


def _words(request: Request) -> tuple[str, str, str]:
    """The three ids for the line; one that would not read as one word is quoted."""
    coupon_id, user_id, request_id, _ = request
    if not _ONE_WORD.fullmatch(user_id + request_id):
        user_id, request_id = _quoted(user_id), _quoted(request_id)
    return coupon_id, user_id, request_id


def _quoted(value: str) -> str:
    return value if _ONE_WORD.fullmatch(value) else json.dumps(value)
