"""Copies the log of one partition to one sink.

The cursor is the last id that the sink has, so that nothing is copied twice and nothing left out,
wherever the process is killed. What is copied is reported to Redis: a sink is a consumer group on
the log, so that nothing is trimmed which it does not have.
"""

import json
import logging
from contextlib import suppress
from threading import Event
from typing import Any

from redis.exceptions import RedisError

from coupon_service.installation import Installation
from coupon_service.ledger.errors import Busy, GoneBack, SinkError
from coupon_service.ledger.line import Line, from_log
from coupon_service.ledger.sinks import Sink
from coupon_service.stream import parts

#: Lines that are copied in one step.
BATCH = 1000
#: Seconds until the log is looked at again after a step that was not full.
IDLE = 0.2
#: Seconds until a step that failed is tried again.
PAUSE = 1.0

#: What can keep a sink from being copied, as it is noted.
KINDS = ("failed", "gone_back")

log = logging.getLogger("ledger")


class Copier:
    """One sink, one partition. Several that do the same are harmless: one of them waits for the
    lock of a file, and a table takes no line twice."""

    def __init__(self, installation: Installation, sink: Sink) -> None:
        self.sink, self.installation = sink, installation
        self._client: Any = installation.client
        self._keys = installation.keys
        self._partition = installation.partition
        self._group = group_of(sink.name)
        self._label = f"sink={sink.name}{installation.label}"
        #: The last line that the sink has, or None; asked for unless `_is_known`.
        self._last: Line | None = None
        self._is_known = False
        #: The kind of failure of the last step; empty if it did not fail, None before the first.
        self._failing: str | None = None

    @property
    def cursor(self) -> str:
        """The id of the last line that the sink has, as far as that is known."""
        return self._last.log_id if self._last else "0-0"

    def run(self, stopping: Event) -> None:
        """Copy until `stopping` is set; wait through every failure of Redis and of the sink."""
        while not stopping.is_set():
            copied = self.try_step()
            if copied is None:
                stopping.wait(PAUSE)
            elif copied < BATCH:
                stopping.wait(IDLE)

    def try_step(self) -> int | None:
        """Make a step; return how many lines it copied, or None if it has failed, which is logged
        once and told to Redis."""
        try:
            copied = self.step()
        except Exception as error:  # a defect must not end the thread that nobody looks at
            self._is_known = False
            self._note(error)
            return None
        if self._failing != "":
            log.info("ledger is copied %s cursor=%s", self._label, self.cursor)
            self._failing = ""
        return copied

    def step(self) -> int:
        """Copy up to BATCH lines and report them.

        Returns:
            How many were copied.

        Raises:
            GoneBack: Redis lacks lines that the sink has, or has others in their place; or the log
                was trimmed before the sink had them.
            redis.exceptions.RedisError, SinkError: nothing was copied, or it was not reported.
        """
        if self._is_known:
            try:
                entries = self._read()
            except GoneBack:  # or another copier is ahead, and what it has copied was trimmed
                self._is_known = False
        if not self._is_known:
            self._begin()
            entries = self._read()
        if not entries:
            return 0
        lines = [from_log(self._partition, log_id, fields) for log_id, fields in entries]
        self.sink.append(self._partition, lines)
        self._last = lines[-1]
        self._report()
        return len(lines)

    def _begin(self) -> None:
        """Ask the sink how far it is, and report that."""
        before = self._join()
        self.sink.open(self._partition)
        self._last = self.sink.last(self._partition)
        trimmed = self._client.get(self._keys.trimmed)
        if not self._last and trimmed:
            if before != "0-0":
                raise GoneBack(
                    f"the ledger is empty, and was at {before}: bring it back, or begin anew after "
                    "`flask ledger forget`"
                )
            log.warning("ledger begins after lines that are trimmed %s trimmed=%s",
                        self._label, trimmed)
        self._read()
        self._report()
        self._is_known = True

    def _read(self) -> list[tuple[str, dict[str, str]]]:
        """Return the lines past the cursor, if the sink and the log agree there."""
        name, cursor = self.sink.name, self.cursor
        with self._client.pipeline(transaction=False) as reads:
            reads.xrange(self._keys.log, f"({cursor}", "+", count=BATCH)
            reads.xrange(self._keys.log, cursor, cursor)
            reads.get(self._keys.trimmed)
            reads.hmget(self._keys.ledger, f"accepted:{name}", f"error:{name}")
            entries, found, trimmed, (accepted, noted) = reads.execute()
        if found:
            agrees = from_log(self._partition, *found[0]) == self._last
        else:
            agrees = cursor in ("0-0", trimmed, accepted)
        if not agrees:
            raise GoneBack(_said(cursor, trimmed))
        if noted and self._is_known:  # by a copier that has ended since
            self._report()
        return list(entries)

    def _join(self) -> str:
        """Hold back all lines that the sink has not reported, also while it cannot be used; return
        what it has. The group is made where it is missing alone, because a server that is out of
        memory makes none."""
        before = reported(self.installation).get(self.sink.name)
        if before is None:
            self._client.xgroup_create(self._keys.log, self._group, "0", mkstream=True)
        return before or "0-0"

    def _report(self) -> None:
        with self._client.pipeline(transaction=False) as writes:
            writes.xgroup_setid(self._keys.log, self._group, self.cursor)
            writes.hdel(self._keys.ledger, f"error:{self.sink.name}")
            writes.execute()

    def _note(self, error: Exception) -> None:
        kind = {Busy: "busy", GoneBack: "gone_back"}.get(type(error), "failed")
        if kind != self._failing:
            is_defect = not isinstance(error, (GoneBack, RedisError, SinkError))
            log.error("ledger is not copied %s error=%s", self._label, error, exc_info=is_defect)
            self._failing = kind
        if kind == "busy":
            return  # it is copied, by another process
        with suppress(RedisError):  # each time, because another copier may have taken it back
            noted = {"kind": kind, "error": str(error)}
            self._client.hset(self._keys.ledger, f"error:{self.sink.name}", json.dumps(noted))


def group_of(name: str) -> str:
    """The consumer group on the log of the sink `name`."""
    return f"ledger:{name}"


def reported(installation: Installation) -> dict[str, str]:
    """Return how far each sink has come in a partition: its name to the id of its last line.

    Raises:
        redis.exceptions.RedisError: Redis cannot be used.
    """
    client: Any = installation.client
    if not client.exists(installation.keys.log):
        return {}
    start = group_of("")
    return {
        group["name"].removeprefix(start): group["last-delivered-id"]
        for group in client.xinfo_groups(installation.keys.log) if group["name"].startswith(start)
    }


def _said(cursor: str, trimmed: str | None) -> str:
    if trimmed and parts(trimmed) > parts(cursor):
        return f"the log was trimmed up to {trimmed}, and the ledger ends at {cursor}"
    return (f"redis has gone back: it does not have the line {cursor}, with which the ledger ends; "
            "see `flask ledger accept`")
