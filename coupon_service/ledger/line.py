"""A line of the ledger, which is one of coupon-log with a place for everything it may have."""

import json
from datetime import datetime
from functools import lru_cache
from json.encoder import encode_basestring
from typing import Any, NamedTuple

from coupon_service.snapshot import instant, stream_ms

#: Names of a line's fields in coupon-log and in a file, by their kind, in the order of `Line`.
_TEXTS = ("decision", "couponId", "userId", "requestId", "entryId")
_NUMBERS = ("quantity", "issued", "pending")
_INSTANTS = ("opensAt", "closesAt", "expiresAt")
#: Characters that are kept of a text; no id that the service writes has so many.
LONGEST = 300
#: The decision of the line that a ledger has where Redis has gone back; see `accept`.
GONE_BACK = "gone_back"


class Line(NamedTuple):
    """What happened; the fields are those of coupon-log, see docs/architecture.md, or None.

    `partition` and `log_id` name a line; instants are milliseconds since 1970.
    """

    partition: int
    log_id: str
    decision: str | None = None
    coupon_id: str | None = None
    user_id: str | None = None
    request_id: str | None = None
    entry_id: str | None = None
    quantity: int | None = None
    issued: int | None = None
    pending: int | None = None
    opens_at: int | None = None
    closes_at: int | None = None
    expires_at: int | None = None


#: The place of the instants in `Line`.
FIRST_INSTANT = Line._fields.index("opens_at")
_NAMES = ("partition", "logId", "decidedAt", *_TEXTS, *_NUMBERS, *_INSTANTS)
# Filled in, because JSONEncoder takes twice as long for the same.
_OBJECT = "{" + ", ".join(f'"{name}": %s' for name in _NAMES) + "}"
_NULL = "null"


@lru_cache(maxsize=1024)  # many lines are of the same millisecond
def _instant(ms: int | None) -> str:
    return _NULL if ms is None else f'"{instant(ms)}"'


def _text(value: str | None) -> str:
    return _NULL if value is None else encode_basestring(value)


def from_log(partition: int, log_id: str, fields: dict[str, str]) -> Line:
    """Make a line of one of coupon-log. What cannot be read in it, because others wrote it, is
    left out."""
    texts = (_readable(fields.get(name)) for name in _TEXTS)
    numbers = (_number(fields.get(name)) for name in (*_NUMBERS, *_INSTANTS))
    return Line(partition, log_id, *texts, *numbers)  # type: ignore[arg-type]


def to_json(line: Line) -> str:
    """Return a line of a file, without its end: a JSON object, instants as RFC 3339."""
    numbers = (_NULL if number is None else number for number in line[7:FIRST_INSTANT])
    return _OBJECT % (
        line.partition, _text(line.log_id), _instant(stream_ms(line.log_id)),
        *map(_text, line[2:7]), *numbers, *map(_instant, line[FIRST_INSTANT:]),
    )


def from_json(text: str) -> Line:
    """Read a line of a file.

    Raises:
        LookupError, TypeError, ValueError: it is none.
    """
    found: dict[str, Any] = json.loads(text)
    instants = (
        value and round(datetime.fromisoformat(value).timestamp() * 1000)
        for value in map(found.__getitem__, _INSTANTS)
    )
    return Line(found["partition"], found["logId"],
                *map(found.__getitem__, (*_TEXTS, *_NUMBERS)), *instants)


def _readable(text: str | None) -> str | None:
    """The text as any sink can store it: no lone surrogates, no NUL, and not too long for an
    index; ids are shorter."""
    if text is None or len(text) <= LONGEST and text.isprintable():
        return text
    return text[:LONGEST].encode("utf-8", "replace").decode().replace("\0", "\ufffd")


def _number(text: str | None) -> int | None:
    """The number, unless it is more than an instant or a table can hold."""
    if text is None or not text.isascii() or not text.isdigit() or len(text) > 15:
        return None
    return int(text) if int(text) <= 253_402_300_799_999 else None
