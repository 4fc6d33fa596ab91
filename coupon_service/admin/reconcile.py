"""Recounts, from the records themselves, what the counters of the coupons say.

The service may run meanwhile: what is moving is not taken for a disagreement. All records are
read in pages.
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from itertools import islice
from typing import Any, NamedTuple

from redis.exceptions import RedisError, ResponseError

from coupon_service.admin.lost_requests import listed, lost_requests
from coupon_service.admin.scripts import AdminScripts
from coupon_service.errors import is_corrupt_data
from coupon_service.installation import Installation
from coupon_service.stream import PAGE, pages, parts


class Disagreement(NamedTuple):
    """Something that does not agree; `repaired` says whether it does now."""

    coupon_id: str
    text: str
    repaired: bool = False


class Counts(NamedTuple):
    """The counters of a coupon at one instant; registered_at tells its lives apart."""

    registered_at: int
    quantity: int
    stock: int
    requested: int
    pending: int

    @property
    def issued(self) -> int:
        return self.quantity - self.stock


class Reconciliation:
    """One pass over the records of the coupons `coupon_ids`.

    `advance` is called with the number of records that were read, for a progress bar.
    Every method raises `redis.exceptions.RedisError`.
    """

    def __init__(
        self,
        installation: Installation,
        coupon_ids: list[str],
        advance: Callable[[int], object] = lambda records: None,
    ) -> None:
        self._client: Any = installation.client
        self._keys = installation.keys
        self._scripts = AdminScripts(installation.scripts)
        self._ids = list(dict.fromkeys(coupon_ids))
        self._advance = advance
        self._before: dict[str, Counts] = {}
        #: By couponId, of this life: issuance marks; and of the log, issuances less cancellations,
        #: and how many of either were written since the counters were read.
        self._marks, self._logged = Counter[str](), Counter[str]()
        self._issued_since, self._cancelled_since = Counter[str](), Counter[str]()
        #: By couponId: what is said of issuances in the log that have no mark.
        self._without_mark = defaultdict[str, list[str]](list)
        #: The log was trimmed up to this line when the pass began, and perhaps further since.
        self._trimmed: tuple[int, ...] = (0, 0)
        self._trimmed_meanwhile = False

    def run(self, fix: bool) -> Iterator[Disagreement]:
        """Find all disagreements.

        Args:
            fix: whether an admitted request that no worker will read any more is put on the stream
                again, which is the one thing here that can be repaired with certainty.
        """
        started, self._trimmed = self._last_line(), self._trimmed_up_to()
        for coupon_id in self._ids:
            yield from self._of(coupon_id, self._first_look(coupon_id))
        for coupon_id in list(self._before):
            yield from self._of(coupon_id, self._lost_requests(coupon_id, fix))
            yield from self._of(coupon_id, self._issuances(coupon_id))
        yield from self._orphans()
        self._log(started)
        self._trimmed_meanwhile = self._trimmed_up_to() != self._trimmed
        for coupon_id in list(self._before):
            yield from self._of(coupon_id, self._last_look(coupon_id))

    def _of(self, coupon_id: str, found: Iterator[Disagreement]) -> Iterator[Disagreement]:
        """Pass on what is found; what cannot be read is a disagreement, and ends the coupon."""
        try:
            yield from found
        except (LookupError, TypeError, ValueError, ResponseError) as error:
            if isinstance(error, RedisError) and not is_corrupt_data(error):
                raise
            self._before.pop(coupon_id, None)
            yield Disagreement(coupon_id, f"corrupt data: {error}")

    def _first_look(self, coupon_id: str) -> Iterator[Disagreement]:
        counts = self._counts(coupon_id)
        if counts:  # else it was deleted since its id was read
            self._before[coupon_id] = counts
        yield from ()

    def _last_look(self, coupon_id: str) -> Iterator[Disagreement]:
        then, now = self._before[coupon_id], self._counts(coupon_id)
        if not now or now.registered_at != then.registered_at:
            return  # deleted meanwhile
        yield from (Disagreement(coupon_id, text) for text in self._without_mark[coupon_id])
        if now.requested != now.issued + now.pending:
            yield Disagreement(
                coupon_id,
                f"requested is {now.requested}, but {now.issued} are issued by the stock "
                f"and {now.pending} are pending",
            )
        least = then.issued - self._cancelled_since[coupon_id]
        most = then.issued + self._issued_since[coupon_id]
        for name, count in (("issuance marks", self._marks), ("issued in the log", self._logged)):
            if count is self._logged and self._trimmed_meanwhile:
                continue  # lines may have gone before they were counted
            if not least <= count[coupon_id] <= most:
                yield Disagreement(
                    coupon_id,
                    f"{name}: {count[coupon_id]}, but {now.issued} are issued by the stock",
                )

    def _counts(self, coupon_id: str) -> Counts | None:
        keys = self._keys
        with self._client.pipeline(transaction=True) as reads:
            reads.hmget(keys.coupon(coupon_id), "deletedAt", "registeredAt", "quantity")
            reads.get(keys.stock(coupon_id))
            reads.get(keys.requested(coupon_id))
            reads.hlen(keys.pending(coupon_id))
            (deleted_at, *declared), *counters = reads.execute()
        if deleted_at or not any(declared):
            return None
        return Counts(*map(_whole, Counts._fields, (*declared, *counters)))

    def _lost_requests(self, coupon_id: str, fix: bool) -> Iterator[Disagreement]:
        lost = lost_requests(self._client, self._keys, coupon_id, self._advance)
        for user_id, mark in lost:
            repaired = fix and self._scripts.requeue(coupon_id, user_id, mark)
            text = f"request {mark.split(' ')[0]} of {user_id!r} will be read by no worker"
            yield Disagreement(coupon_id, text, repaired)

    def _issuances(self, coupon_id: str) -> Iterator[Disagreement]:
        """Count the marks that the issuances name, and look for the line of each in the log."""
        for page in self._pages(self._keys.issuances(coupon_id)):
            users = [(line_id, entry["userId"]) for line_id, entry in page]
            with self._client.pipeline(transaction=False) as reads:
                for line_id, user_id in users:
                    reads.get(self._keys.user(coupon_id, user_id))
                    reads.xrange(self._keys.log, line_id, line_id)
                found = reads.execute(raise_on_error=False)
            trimmed = self._trimmed_up_to()
            for row, (line_id, user_id) in enumerate(users):
                mark, lines = found[2 * row:][:2]
                if str(mark).partition(" ")[2] != line_id:
                    continue  # cancelled meanwhile, or missed when the log is read
                self._marks[coupon_id] += 1
                self._logged[coupon_id] += parts(line_id) <= self._trimmed
                if parts(line_id) > trimmed and not _is_line_of(lines, coupon_id, user_id):
                    yield Disagreement(
                        coupon_id, f"issuance mark of {user_id!r} has no line in the log"
                    )

    def _orphans(self) -> Iterator[Disagreement]:
        """Find the marks that no issuance names, in one pass over all keys."""
        start = self._keys.coupon("")
        names = self._client.scan_iter(_literal(start) + "*:user:*", count=PAGE)
        for page in _grouped(names):
            self._advance(len(page))
            owners = [name.removeprefix(start).split(":user:", 1) for name in page]
            marked = [
                (name, *owner) for name, owner in zip(page, owners, strict=True)
                if owner[0] in self._before
            ]
            with self._client.pipeline(transaction=True) as reads:
                for name, _, _ in marked:
                    reads.get(name)
                marks = list(map(str, reads.execute(raise_on_error=False)))
            with self._client.pipeline(transaction=True) as reads:
                for (name, coupon_id, _), mark in zip(marked, marks, strict=True):
                    line_id = mark.partition(" ")[2] or "0-1"
                    reads.xrange(self._keys.issuances(coupon_id), line_id, line_id)
                    reads.get(name)
                found = reads.execute(raise_on_error=False)
            for row, (_, coupon_id, user_id) in enumerate(marked):
                entries, mark = found[2 * row:][:2]
                named = any(entry.get("userId") == user_id for _, entry in listed(entries))
                if mark is not None and str(mark) == marks[row] and not named:
                    self._marks[coupon_id] += 1
                    yield Disagreement(coupon_id, f"no issuance names the mark of {user_id!r}")

    def _log(self, started: tuple[int, ...]) -> None:
        """Count issuances and cancellations in the log, and look for the mark of each issuance."""
        without_mark: dict[tuple[str, str], str] = {}
        for page in self._pages(self._keys.log):
            lines = [
                (line_id, line) for line_id, line in page
                if line.get("decision") in ("issued", "cancelled")
                and self._is_of_this_life(line.get("couponId", ""), line_id)
            ]
            with self._client.pipeline(transaction=False) as reads:
                for _, line in lines:
                    reads.get(self._keys.user(line["couponId"], line.get("userId", "")))
                    # A cancelled issuance names its line, a withdrawn request its entry.
                    named = line.get("entryId", "")
                    reads.xrange(self._keys.log, named, named)
                found = reads.execute(raise_on_error=False)
            for row, (line_id, line) in enumerate(lines):
                mark, named = found[2 * row:][:2]
                coupon_id, user_id = user = line["couponId"], line.get("userId", "")
                is_new = parts(line_id) > started
                if line["decision"] == "issued":
                    self._logged[coupon_id] += 1
                    self._issued_since[coupon_id] += is_new
                    if mark != f"{line.get('requestId')} {line_id}":
                        without_mark[user] = line_id
                    continue
                # Version 0.1 wrote this word for withdrawn requests too, whose line names an entry.
                cancelled = _is_line_of(named, *user)
                self._logged[coupon_id] -= cancelled
                self._cancelled_since[coupon_id] += is_new
                if cancelled:
                    without_mark.pop(user, None)
        for (coupon_id, user_id), line_id in without_mark.items():
            self._without_mark[coupon_id].append(
                f"{user_id!r} was issued by the log ({line_id}), without its mark"
            )

    def _is_of_this_life(self, coupon_id: str, line_id: str) -> bool:
        """Whether a line is of a coupon that is looked at, not of one that had its id before."""
        counts = self._before.get(coupon_id)
        return counts is not None and parts(line_id)[0] >= counts.registered_at

    def _trimmed_up_to(self) -> tuple[int, ...]:
        return parts(self._client.get(self._keys.trimmed) or "0-0")

    def _last_line(self) -> tuple[int, ...]:
        newest = self._client.xrevrange(self._keys.log, count=1)
        return parts(newest[0][0]) if newest else (0, 0)

    def _pages(self, stream: str) -> Iterator[list[tuple[str, dict[str, str]]]]:
        for page in pages(self._client, stream):
            self._advance(len(page))
            yield page


def _whole(name: str, value: str | int | None) -> int:
    if value is None:
        raise ValueError(f"{name} is lost")
    try:
        return int(value)
    except ValueError:
        raise ValueError(f"{name} is {value!r}") from None


def _is_line_of(reply: Any, coupon_id: str, user_id: str) -> bool:
    """Whether a look-up in the log has found the user's line."""
    return any(
        line.get("couponId") == coupon_id and line.get("userId") == user_id
        for _, line in listed(reply)
    )


def _grouped(records: Iterator[str]) -> Iterator[list[str]]:
    while page := list(islice(records, PAGE)):
        yield page


def _literal(text: str) -> str:
    """Escape what SCAN's patterns give a meaning."""
    return "".join(f"\\{letter}" if letter in "*?[]\\" else letter for letter in text)
