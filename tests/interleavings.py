"""Every interleaving of what can happen to one coupon in a small scope, with the real scripts.

The scope: coupon A, two users, two workers, two removers of pages; `Budget` says how often what is
optional may happen. A breadth-first search makes each possible step in each state that it finds,
through the doors that the service uses, on a real server, whose data is saved by DUMP and restored
by RESTORE. States are the same if they differ in nothing but stream ids (their order counts),
instants, counters of refusals and which worker is which. Not in the scope are entries of other
producers, windows and expiry, and a quantity that changes.

    python -m tests.interleavings --depth 10 --quantity 1
"""

import argparse
import hashlib
import re
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple
from unittest.mock import Mock, patch

from redis import Redis

from coupon_service.admin.scripts import AdminScripts
from coupon_service.config import Config
from coupon_service.connection import connect
from coupon_service.decisions import Decisions
from coupon_service.installation import Installation
from coupon_service.keys import GROUP, Keys
from coupon_service.removal import Removal
from coupon_service.scripts import Registration, Request
from coupon_service.stream import Entry, RequestStream
from coupon_service.worker_scripts import WorkerScripts
from tests.processes import Server

KEYS = Keys()
USERS, WORKERS, REMOVERS = ("u1", "u2"), ("W1", "W2"), 2
#: More than there can be: entries of one read, and passes of a drain.
MANY = 20
#: The coupon's own keys, and all keys.
OWN = [KEYS.coupon("A"), KEYS.pending("A"), KEYS.issuances("A"), KEYS.stock("A"),
       KEYS.requested("A"), *(KEYS.user("A", user) for user in USERS), KEYS.series("A")]
NAMES = [*OWN, KEYS.requests, KEYS.log, KEYS.dead, KEYS.coupons, KEYS.removals]
#: Returns all data, as DUMP does and readable; then puts the dumps in ARGV, if any, in its place.
SWAP = f"""
local k, dumps = KEYS, {{}}
for row, key in ipairs(k) do dumps[row] = redis.call('DUMP', key) or '' end
local data = {{dumps, redis.call('DBSIZE'),
  redis.call('HGETALL', k[1]), redis.call('HGETALL', k[2]), redis.call('XRANGE', k[3], '-', '+'),
  redis.call('MGET', unpack(k, 4, 7)),
  redis.call('XRANGE', k[9], '-', '+'), redis.call('XRANGE', k[10], '-', '+'),
  redis.call('XPENDING', k[9], '{GROUP}', '-', '+', 100), redis.call('XINFO', 'GROUPS', k[9])}}
if #ARGV > 0 then redis.call('DEL', unpack(k)) end
for row, dump in ipairs(ARGV) do
  if dump ~= '' then redis.call('RESTORE', k[row], 0, dump) end
end
return data
"""


class Violation(AssertionError):
    """What does not hold, and the shortest path of steps to it."""


class Result(NamedTuple):
    """How much was explored; `complete`: no longer path leads to another state."""

    states: int
    transitions: int
    depth: int
    complete: bool


class Budget(NamedTuple):
    """How often each of these may happen: a user requests, repeats the request with its id,
    requests again with another id, is cancelled; the coupon is deleted; a fault, which is a reply
    that is lost or a worker that crashes."""

    admit: int = len(USERS)
    repeat: int = 1
    again: int = 1
    cancel: int = 1
    delete: int = 1
    fault: int = 1


class Memory(NamedTuple):
    """The part of a state that is not in Redis."""

    budget: Budget
    #: Of each worker: the entries that it holds, and `_own_after` of `worker.Worker`.
    workers: tuple[tuple[tuple[Entry, ...], str | None], ...] = (((), None),) * len(WORKERS)
    #: Pages that were read and are not removed yet: the arguments of `WorkerScripts.remove`.
    pages: tuple[Any, ...] = ()
    #: userId and requestId of what was accepted and not cancelled; after a deletion, of what was
    #: issued before.
    promised: frozenset[tuple[str, str]] = frozenset()
    #: Whether the coupon is registered and not deleted.
    live: bool = True

    def spend(self, what: str, **changes: Any) -> "Memory":
        """Return a copy with `changes`, after one of what is in `Budget`."""
        budget = self.budget._replace(**{what: getattr(self.budget, what) - 1})
        return self._replace(budget=budget, **changes)

    def worker(self, row: int, held: Sequence[Entry], own_after: str | None) -> "Memory":
        """Return a copy in which a worker has this in memory."""
        its = (tuple(held), own_after)
        return self._replace(workers=(*self.workers[:row], its, *self.workers[row + 1:]))


class Content:
    """The part of a state that is in Redis, from the reply of SWAP."""

    def __init__(self, reply: list[Any]) -> None:
        dumps, keys, coupon, pending, issuances, strings, entries, log, owned, [group] = reply
        assert keys == sum(map(bool, dumps)), "there are keys of other names"
        self.dumps = [dump.encode("utf-8", "surrogateescape") for dump in dumps]
        self.coupon = _pairs(coupon)
        self.since = self.coupon.get("since", "0-0")
        self.stock, self.requested, *marks = strings
        #: The marks in two parts, by userId: request id, and id of the entry or the line.
        self.pending = {user: mark.split() for user, mark in _pairs(pending).items()}
        self.marks = {user: mark.split() for user, mark in zip(USERS, marks) if mark}
        self.issuances = {user: line for line, (_, user) in issuances}
        self.entries = {entry: _pairs(fields) for entry, fields in entries}
        self.log = [(line, _pairs(fields)) for line, fields in log]
        #: By the ids of entries that are pending in the group: the consumer.
        self.owners = {entry: owner for entry, owner, *_ in owned}
        delivered = _id(_pairs(group)["last-delivered-id"])
        self.unread = [entry for entry in self.entries if _id(entry) > delivered]
        self.dead, self.listed, self.due = map(bool, dumps[-3:])

    def logged(self) -> dict[str, list[str]]:
        """Return the issuances of this life of the coupon by the log, as `marks` has them."""
        holders: dict[str, list[str]] = {}
        for line, fields in self.log:
            user = fields.get("userId", "")
            if fields["decision"] == "cancelled":
                holders.pop(user, None)
            elif fields["decision"] == "issued" and _id(fields["entryId"]) > _id(self.since):
                assert user not in holders, f"{user} is issued two"
                holders[user] = [fields["requestId"], line]
        return holders

    def check(self, memory: Memory, verdicts: Sequence[Any] = (), end: bool = False) -> None:
        """Assert that the data agrees with itself, with the memory and with the verdicts.

        Args:
            verdicts: each request that was decided in this step, with its reply.
            end: whether there should be nothing left to do.
        """
        live = "quantity" in self.coupon and "deletedAt" not in self.coupon
        assert live == memory.live, f"the coupon is {'' if live else 'not '}live"
        assert self.listed == live, "the coupon is listed and deleted, or neither"
        kept, promised = _places({**self.pending, **self.marks}), memory.promised
        agree = kept == promised if live else _places(self.marks) <= promised
        assert agree, f"{sorted(promised)} is promised and {sorted(kept)} kept"
        lines = {user: line for user, (_, line) in self.marks.items()}
        assert self.issuances == lines, "the issuances are not those of the marks"
        assert not self.dead, "there is a dead letter"
        for user, (request_id, entry) in self.pending.items():
            fields = {"couponId": "A", "userId": user, "requestId": request_id}
            assert self.entries.get(entry) == fields, f"the entry of {user} is not on the stream"
        if live:
            quantity, issued, pending = int(self.coupon["quantity"]), len(lines), len(self.pending)
            assert self.logged() == self.marks, "the marks are not those of the log"
            assert issued <= quantity, "more than the quantity is issued"
            assert quantity == int(self.stock) + issued, "quantity is not stock + issued"
            assert int(self.requested) == issued + pending, "requested is not issued + pending"
        elif not self.coupon:
            assert not any(self.dumps[:len(OWN)]), "something is left of a removed life"
        assert self.due == (not live and bool(self.coupon)), "the removal is due at a wrong time"
        for request, (verdict, _) in verdicts:
            current = _id(request.entry_id) > _id(self.since)
            issued = current and self.marks.get(request.user_id, [""])[0] == request.request_id
            assert (verdict == 1) == issued, f"the verdict on {request.user_id} is {verdict}"
        if end:
            assert not self.pending, f"{sorted(self.pending)} is accepted and never issued"
            assert not self.entries and not self.owners, "there are entries that nobody decides"
            assert live or not self.coupon, "the deleted coupon is never removed"

    def digests(self, memory: Memory) -> tuple[bytes, bytes]:
        """Return digests of all that can matter from here on: if every process starts anew, and
        if they go on."""
        stored = [
            memory.live, bool(self.coupon), self.stock, self.requested, self.since, self.unread,
            sorted(memory.promised), sorted(self.pending.items()), _lines(self.issuances.items()),
            sorted((user, request_id) for user, (request_id, _) in self.marks.items()),
            [(entry, sorted(fields.items())) for entry, fields in self.entries.items()],
            sorted(self.owners),
        ]
        workers = sorted(
            ([entry for entry, _ in held], own_after or "",
             [entry for entry, owner in self.owners.items() if owner == name])
            for name, (held, own_after) in zip(WORKERS, memory.workers)
        )
        pages = sorted((sorted(pending.items()), _lines((user, line) for line, user in issued))
                       for _, pending, issued in memory.pages)
        return _digest(stored), _digest([stored, memory.budget, workers, pages])


#: The name of a step, and a call that makes it and returns the memory after it.
Step = tuple[str, Callable[[], Memory]]


class Deciding(WorkerScripts):
    """Keeps in `verdicts` what a worker was answered."""

    verdicts: Sequence[Any] = ()

    def issue(self, requests: Sequence[Request]) -> list[Any]:
        """Decide entries as `WorkerScripts` does."""
        replies = super().issue(requests)
        self.verdicts = list(zip(requests, replies, strict=True))
        return replies


class Explorer:
    """Explores what can happen to a coupon of `quantity`; the data of `client` is its own."""

    def __init__(self, client: Redis, quantity: int, budget: Budget = Budget()) -> None:
        installation = Installation(Config(), client)
        self._client, self._budget = client, budget
        self._registration = Registration("A", quantity)
        self._coupon_scripts = installation.coupon_scripts
        self._admin_scripts = AdminScripts(installation.scripts)
        self._worker_scripts = Deciding(installation.scripts)
        self._decide = Decisions(self._worker_scripts).decide
        self._streams = [RequestStream(client, KEYS, name) for name in (*WORKERS, "last")]
        self._swap_script = client.register_script(SWAP)

    @patch("coupon_service.removal.PAGE", 1)
    def explore(self, depth: int) -> Result:
        """Make all steps in all orders, up to `depth` of them.

        Raises:
            Violation: something does not hold after a step, or when all that is left is done.
        """
        self._client.flushdb()
        self._coupon_scripts.register([self._registration])
        self._streams[0].read_new(MANY, None)  # creates the group
        memory, content = Memory(self._budget), self._swap()
        end, state = content.digests(memory)
        ends, states, transitions = {end}, {state}, 0
        reached: list[Any] = [(content.dumps, memory, ())]
        for level in range(depth):
            starts, reached = reached, []
            for dumps, memory, path in starts:
                self._swap(dumps)
                content = self._swap()
                assert content.dumps == dumps, "the restored data is not what was saved"
                for name, step in self._steps(memory, content):
                    transitions, self._worker_scripts.verdicts = transitions + 1, ()
                    try:
                        after = step()
                        found = self._swap(dumps)
                        found.check(after, self._worker_scripts.verdicts)
                        end, state = found.digests(after)
                        if end not in ends:
                            ends.add(end)
                            self._swap(found.dumps)
                            self._drain()
                            self._swap(dumps).check(after, end=True)
                    except AssertionError as error:
                        steps = " → ".join([*path, name])
                        raise Violation(f"{error}; after {level + 1} steps: {steps}") from error
                    if state not in states:
                        states.add(state)
                        reached.append((found.dumps, after, (*path, name)))
            if not reached:
                return Result(len(states), transitions, level, True)
        return Result(len(states), transitions, depth, False)

    def _swap(self, dumps: Sequence[bytes] = ()) -> Content:
        """Return the data; then restore `dumps`, if given."""
        return Content(self._swap_script(NAMES, dumps))

    def _steps(self, memory: Memory, content: Content) -> Iterator[Step]:
        """Yield each possible step; its call is valid until the next one is taken."""
        budget, admin = memory.budget, self._admin_scripts
        asked = self._budget.admit - budget.admit
        for user in USERS[:asked]:
            if budget.repeat:
                yield f"repeat {user}", lambda: self._admit(memory.spend("repeat"), content, user)
            if budget.again:
                again = memory.spend("again")
                yield f"admit {user} again", lambda: self._admit(again, content, user, "again")
            rest = frozenset(place for place in memory.promised if place[0] != user)
            if budget.cancel and memory.live and rest != memory.promised:
                yield f"cancel {user}", lambda: _answered(
                    "cancelled", admin.cancel("A", user, ""),
                    memory.spend("cancel", promised=rest))
        if budget.admit:  # users in their order, because nothing tells them apart before
            new = USERS[asked]
            yield f"admit {new}", lambda: self._admit(memory.spend("admit"), content, new)
        if memory.live and budget.delete:
            yield "delete", lambda: _answered(
                "deleted", admin.delete("A"),
                memory.spend("delete", promised=_places(content.marks), live=False))
        if not memory.live:
            status, after = ("being_removed", memory) if content.coupon else (
                "registered", memory._replace(promised=frozenset(), live=True))
            yield "register", lambda: _answered(
                status, self._coupon_scripts.register([self._registration]), after)
        for row, name in enumerate(WORKERS):
            for what, step in self._worker_steps(memory, content, row):
                yield f"{name} {what}", step
        if content.due and len(memory.pages) < REMOVERS:
            yield "read page", lambda: self._read_page(memory)
        for row, page in enumerate(memory.pages):
            pages = memory.pages[:row] + memory.pages[row + 1:]
            yield f"remove page {row + 1}", lambda: _after(
                self._worker_scripts.remove(*page), memory._replace(pages=pages))

    def _worker_steps(self, memory: Memory, content: Content, row: int) -> Iterator[Step]:
        stream, (held, own_after) = self._streams[row], memory.workers[row]
        fault, failed = memory.budget.fault, memory.spend("fault").worker(row, (), "0")
        if held:
            yield "decides", lambda: _after(
                self._decide(list(held)), memory.worker(row, (), own_after))
            if fault:
                yield "decides, reply lost", lambda: _after(self._decide(list(held)), failed)
        elif own_after:
            yield "reads its own", lambda: self._read_own(memory, row, own_after)
        else:
            if content.unread:
                yield "reads", lambda: memory.worker(row, stream.read_new(MANY, None), None)
                if fault:
                    yield "reads, reply lost", lambda: _after(stream.read_new(MANY, None), failed)
            if content.owners:
                yield "claims", lambda: memory.worker(
                    row, (), "0" if stream.claim_stale(0, MANY) else None)
        if fault and (held or own_after != "0"):
            yield "crashes", lambda: failed

    def _admit(
        self, memory: Memory, content: Content, user: str, request_id: str = "first"
    ) -> Memory:
        place = {**content.pending, **content.marks}.get(user)
        if not memory.live:
            expected = "unknown_coupon"
        elif place or int(content.requested) < self._registration.quantity:
            expected = "duplicate" if place and place[0] != request_id else "accepted"
        else:
            expected = "sold_out"
        [reply] = self._coupon_scripts.admit([Request("A", user, request_id)])
        accepted = {(user, request_id)} if expected == "accepted" else set()
        return _answered(expected, reply, memory._replace(promised=memory.promised | accepted))

    def _read_own(self, memory: Memory, row: int, own_after: str) -> Memory:
        entries = self._streams[row].read_own(own_after, MANY)
        return memory.worker(row, entries, entries[-1].entry_id if entries else None)

    def _read_page(self, memory: Memory) -> Memory:
        reader = Mock()  # keeps the page, instead of removing it at once
        reader.remove.return_value = "removing"
        Removal(self._client, KEYS, reader).remove_page("A")
        return memory._replace(pages=(*memory.pages, reader.remove.call_args.args))

    def _drain(self) -> None:
        """Do all that is left to do, as a worker that is the only one does."""
        stream, removal = self._streams[-1], Removal(self._client, KEYS, self._worker_scripts)
        for _ in range(MANY):
            stream.claim_stale(0, MANY)
            entries = stream.read_own("0", MANY) or stream.read_new(MANY, None)
            due = removal.next_due()
            if not entries and not due:
                return
            self._decide(entries)
            if due:
                removal.remove_page(due)
        raise AssertionError("the last worker does not get on")


def _places(marks: dict[str, list[str]]) -> frozenset[tuple[str, str]]:
    return frozenset((user, request_id) for user, (request_id, _) in marks.items())


def _after(_: object, memory: Memory) -> Memory:
    return memory


def _answered(expected: str, reply: Sequence[Any], memory: Memory) -> Memory:
    assert reply[0] == expected, f"the answer is {reply} and not {expected}"
    return memory


def _pairs(flat: list[str]) -> dict[str, str]:
    return dict(zip(flat[::2], flat[1::2], strict=True))


def _id(text: str) -> tuple[int, int]:
    """A stream id as numbers, which compare as the ids do."""
    ms, _, sequence = text.partition("-")
    return int(ms), int(sequence or 0)


def _lines(issued: Any) -> list[str]:
    """Users with ids of lines, spelled so that they are not numbered among those of entries."""
    return [f"{user} {line.replace('-', '/')}" for user, line in issued]


def _digest(state: Any) -> bytes:
    """A digest of `state`, in which each id is replaced by its number in their order."""
    text = repr(state)
    for pattern in (r"\d+-\d+", r"\d+/\d+"):
        ids = sorted(set(re.findall(pattern, text)), key=lambda each: _id(each.replace("/", "-")))
        text = re.sub(pattern, lambda found, ids=ids: f"#{ids.index(found[0])}", text)
    return hashlib.blake2b(text.encode(), digest_size=16).digest()


@contextmanager
def own_server(folder: Path) -> Iterator[Redis]:
    """Yield a client of a server that runs meanwhile; nothing is written to disk."""
    server = Server(folder, "--appendonly", "no")
    try:
        with connect(Config(redis_url=server.start().url), 5.0, retries=0) as client:
            yield client
    finally:
        server.stop()


def main() -> None:
    """Explore, and print how much that was."""
    parser = argparse.ArgumentParser(description="Make all steps in all orders.")
    parser.add_argument("--depth", type=int, required=True, help="steps of the longest paths")
    parser.add_argument("--quantity", type=int, default=1)
    for name, default in Budget()._asdict().items():
        parser.add_argument(f"--{name}", type=int, default=default, help="how often at the most")
    options, began = vars(parser.parse_args()), time.monotonic()
    depth, quantity = options.pop("depth"), options.pop("quantity")
    with tempfile.TemporaryDirectory() as folder, own_server(Path(folder)) as client:
        result = Explorer(client, quantity, Budget(**options)).explore(depth)
    print(f"{result} in {time.monotonic() - began:.1f} s")


if __name__ == "__main__":
    main()
