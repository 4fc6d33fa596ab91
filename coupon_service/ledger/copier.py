"""Copies the log of one partition to one sink.

The cursor is the last id that the sink has, so that nothing is copied twice and nothing left out,
wherever the process is killed. What is copied is reported to Redis: a sink is a consumer group on
the log, so that nothing is trimmed which it does not have.
"""

import json
import logging
from threading import Event
from typing import Any

from redis.exceptions import RedisError

from coupon_service.installation import Installation
from coupon_service.ledger.errors import Busy, GoneBack, SinkError
from coupon_service.ledger.line import from_log, parts
from coupon_service.ledger.sinks import Sink

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
        #: None: the sink has to be asked.
        self._cursor: str | None = None
        #: The kind of failure of the last step; empty if it did not fail, None before the first.
        self._failing: str | None = None

    @property
    def cursor(self) -> str:
        """The id of the last line that the sink has, as far as that is known."""
        return self._cursor or "0-0"

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
            if self._failing != "":
                self._client.hdel(self._keys.ledger, f"error:{self.sink.name}")
        except (GoneBack, RedisError, SinkError) as error:
            self._cursor = None
            self._note(error)
            return None
        if self._failing != "":
            log.info("ledger is copied %s cursor=%s", self._label, self._cursor)
            self._failing = ""
        return copied

    def step(self) -> int:
        """Copy up to BATCH lines and report them.

        Returns:
            How many were copied.

        Raises:
            GoneBack: Redis lacks lines that the sink has, or the log was trimmed before the sink
                had them.
            redis.exceptions.RedisError, SinkError: nothing was copied, or it was not reported.
        """
        if self._cursor is None:
            self._join()
            cursor = self.sink.last(self._partition)
            self._read(cursor)
            self._report(cursor)
            self._cursor = cursor
        entries = self._read(self._cursor)
        if not entries:
            return 0
        lines = [from_log(self._partition, log_id, fields) for log_id, fields in entries]
        self.sink.append(self._partition, lines)
        self._cursor = lines[-1].log_id
        self._report(self._cursor)
        return len(lines)

    def _read(self, cursor: str) -> list[tuple[str, dict[str, str]]]:
        """Return the lines past the cursor, if that is where the sink and the log agree."""
        with self._client.pipeline(transaction=False) as reads:
            reads.xrange(self._keys.log, f"({cursor}", "+", count=BATCH)
            reads.xrange(self._keys.log, cursor, cursor)
            reads.get(self._keys.trimmed)
            reads.hget(self._keys.ledger, f"accepted:{self.sink.name}")
            entries, at_cursor, trimmed, accepted = reads.execute()
        if not at_cursor and cursor not in ("0-0", trimmed, accepted):
            raise GoneBack(_said(cursor, trimmed))
        found: list[tuple[str, dict[str, str]]] = entries
        return found

    def _join(self) -> None:
        """Hold all lines back, also while the sink cannot be used yet. The group is made where it
        is missing alone, because a server that is out of memory makes none."""
        if self.sink.name not in reported(self.installation):
            self._client.xgroup_create(self._keys.log, self._group, "0", mkstream=True)

    def _report(self, cursor: str) -> None:
        self._client.xgroup_setid(self._keys.log, self._group, cursor)

    def _note(self, error: Exception) -> None:
        kind = {Busy: "busy", GoneBack: "gone_back"}.get(type(error), "failed")
        if kind == self._failing:
            return
        self._failing = kind
        log.error("ledger is not copied %s error=%s", self._label, error)
        if kind == "busy":
            return  # it is copied, by another process
        try:
            noted = {"kind": kind, "error": str(error)}
            self._client.hset(self._keys.ledger, f"error:{self.sink.name}", json.dumps(noted))
        except RedisError:
            self._failing = None  # it is noted as soon as Redis takes it


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
    return (f"redis has gone back: the ledger ends at {cursor}, which redis does not have; see "
            "`flask ledger accept`")
