"""Recounts, from the records themselves, what the counters of the coupons say.

The service may run meanwhile: what is moving is not taken for a disagreement.
"""

from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from coupon_service.admin.scripts import AdminScripts
from coupon_service.installation import Installation

#: Records that are read in one round trip.
PAGE = 1000


class Disagreement(NamedTuple):
    """Something that does not agree; `repaired` says whether it does now."""

    coupon_id: str
    text: str
    repaired: bool = False


class Counts(NamedTuple):
    """The counters of a coupon at one instant; all are 0 if it is not registered."""

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
        self._ids = coupon_ids
        self._advance = advance

    def run(self, fix: bool) -> Iterator[Disagreement]:
        """Find all disagreements.

        Args:
            fix: whether an admitted request whose entry is gone is put on the stream again,
                which is the one thing here that can be repaired with certainty.
        """
        before = {coupon_id: self._counts(coupon_id) for coupon_id in self._ids}
        # Any other was deleted since its id was read.
        self._ids = [coupon_id for coupon_id in self._ids if before[coupon_id].registered_at]
        yield from self._lost_requests(fix)
        marks, logged = Counter[str](), Counter[str]()
        yield from self._marks(marks)
        yield from self._log(logged, before)
        for coupon_id in self._ids:
            then, now = before[coupon_id], self._counts(coupon_id)
            if now.requested != now.issued + now.pending:
                yield Disagreement(
                    coupon_id,
                    f"requested is {now.requested}, but {now.issued} are issued by the stock "
                    f"and {now.pending} are pending",
                )
            least, most = sorted((then.issued, now.issued))
            for name, count in (("issuance marks", marks), ("issued in the log", logged)):
                if not least <= count[coupon_id] <= most:
                    yield Disagreement(
                        coupon_id,
                        f"{name}: {count[coupon_id]}, but {now.issued} are issued by the stock",
                    )

    def _counts(self, coupon_id: str) -> Counts:
        keys = self._keys
        with self._client.pipeline(transaction=True) as reads:
            reads.hmget(keys.coupon(coupon_id), "deletedAt", "registeredAt", "quantity")
            reads.get(keys.stock(coupon_id))
            reads.get(keys.requested(coupon_id))
            reads.hlen(keys.pending(coupon_id))
            (deleted_at, *declared), *counters = reads.execute()
        if deleted_at:
            return Counts(0, 0, 0, 0, 0)
        return Counts(*(int(value or 0) for value in (*declared, *counters)))

    def _lost_requests(self, fix: bool) -> Iterator[Disagreement]:
        """Admission writes mark and entry in one step, and the decision removes both in one.
        So a mark that is there before the stream is read, and still is afterwards, without an
        entry in between, has lost its entry."""
        pending = {
            (coupon_id, user_id, mark.partition(" ")[0])
            for coupon_id in self._ids
            for user_id, mark in self._client.hscan_iter(
                self._keys.pending(coupon_id), count=PAGE
            )
        }
        for _, entry in self._stream(self._keys.requests):
            identity = entry.get("couponId"), entry.get("userId"), entry.get("requestId")
            pending.discard(identity)
        for coupon_id, user_id, request_id in sorted(pending):
            mark = self._client.hget(self._keys.pending(coupon_id), user_id) or ""
            if mark.partition(" ")[0] == request_id:
                repaired = fix and self._scripts.requeue(coupon_id, user_id, request_id)
                yield Disagreement(
                    coupon_id, f"request {request_id} of {user_id!r} is not on the stream", repaired
                )

    def _marks(self, count: Counter[str]) -> Iterator[Disagreement]:
        for coupon_id in self._ids:
            start = self._keys.user(coupon_id, "")
            names = self._client.scan_iter(_literal(start) + "*", count=PAGE)
            for page in _pages(names):
                self._advance(len(page))
                marks = self._client.mget(page)
                with self._client.pipeline(transaction=False) as lookups:
                    for mark in marks:
                        log_id = (mark or "").partition(" ")[2] or "0-1"
                        lookups.xrange(self._keys.log, log_id, log_id)
                    found = lookups.execute(raise_on_error=False)
                for name, mark, entries in zip(page, marks, found, strict=True):
                    count[coupon_id] += 1
                    user_id = name.removeprefix(start)
                    if not _is_line_of(entries, coupon_id, user_id):
                        yield Disagreement(
                            coupon_id, f"issuance mark of {user_id!r} has no line in the log"
                        )

    def _log(
        self, count: Counter[str], coupons: dict[str, Counts]
    ) -> Iterator[Disagreement]:
        without_mark: dict[tuple[str, str], str] = {}
        for page in _pages(self._stream(self._keys.log)):
            lines = [
                (log_id, line) for log_id, line in page
                if line["couponId"] in self._ids and line["decision"] in ("issued", "cancelled")
                # Older lines are of a coupon that had this id before.
                and int(log_id.partition("-")[0]) >= coupons[line["couponId"]].registered_at
            ]
            with self._client.pipeline(transaction=False) as look_up:
                for _, line in lines:
                    look_up.get(self._keys.user(line["couponId"], line["userId"]))
                    # A cancelled issuance names its line, a cancelled request its entry.
                    look_up.xrange(self._keys.log, line["entryId"], line["entryId"])
                found = look_up.execute()
            for (log_id, line), mark, named in zip(lines, found[::2], found[1::2], strict=True):
                user = line["couponId"], line["userId"]
                if line["decision"] == "issued":
                    count[line["couponId"]] += 1
                    if mark != f"{line['requestId']} {log_id}":
                        without_mark[user] = log_id
                elif _is_line_of(named, *user):  # an entry's id can be that of another's line
                    count[line["couponId"]] -= 1
                    without_mark.pop(user, None)
        for (coupon_id, user_id), log_id in without_mark.items():
            yield Disagreement(
                coupon_id, f"{user_id!r} was issued by the log ({log_id}), without its mark"
            )

    def _stream(self, name: str) -> Iterator[tuple[str, dict[str, str]]]:
        after = "-"
        while page := self._client.xrange(name, after, "+", count=PAGE):
            self._advance(len(page))
            yield from page
            after = f"({page[-1][0]}"


def _is_line_of(entries: Any, coupon_id: str, user_id: str) -> bool:
    """Whether a look-up in the log, which may have been refused, has found the user's line."""
    if isinstance(entries, Exception) or not entries:
        return False
    [(_, entry)] = entries
    return bool(entry["couponId"] == coupon_id and entry["userId"] == user_id)


def _pages(records: Iterator[Any]) -> Iterator[list[Any]]:
    page: list[Any] = []
    for record in records:
        page.append(record)
        if len(page) == PAGE:
            yield page
            page = []
    if page:
        yield page


def _literal(text: str) -> str:
    """Escape what SCAN's patterns give a meaning."""
    return "".join(f"\\{letter}" if letter in "*?[]\\" else letter for letter in text)
