"""Counts the answers of all web processes in memory that they share.

The file behind that memory has no name and is inherited by the processes that gunicorn forks. Each
process adds up in a row of its own, which it holds by a lock that ends with the process; the next
process goes on with the counts that it finds in a free row. So nothing that was counted is lost
when a process dies, and everything when gunicorn ends.
"""

import fcntl
import os
from bisect import bisect_left
from functools import cache
from http import HTTPStatus
from itertools import product
from mmap import ACCESS_READ, ALLOCATIONGRANULARITY, mmap
from tempfile import TemporaryFile
from threading import Lock
from typing import NamedTuple

#: Upper bounds of the durations that are counted together, in seconds.
BOUNDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)
#: Stands for each route, method and status that is not known: clients can choose any number.
OTHER = "other"

_BOUNDS_NS = [int(bound * 1e9) for bound in BOUNDS]
_METHODS = ("GET", "HEAD", "POST", "DELETE", "OPTIONS", "PUT", "PATCH", OTHER)
_STATUSES = (*(str(status.value) for status in HTTPStatus), OTHER)
_METHOD = {method: number for number, method in enumerate(_METHODS)}
_STATUS = {int(status): number for number, status in enumerate(_STATUSES[:-1])}
#: Bytes of a count. One of this size and alignment is read and written as a whole.
_BYTES = 8


class Durations(NamedTuple):
    """How long the answers of a route took: how many up to each bound and not up to the one
    before, then those above the last; and the sum in seconds."""

    counts: list[int]
    seconds: float


class Counted(NamedTuple):
    """What was counted: the answers by route, method and status, and the durations by route; what
    has not occurred is missing."""

    answers: dict[tuple[str, str, str], int]
    durations: dict[str, Durations]


class HttpCounters:
    """The counts of answers by route, method and status, and of their durations by route."""

    def __init__(self, routes: tuple[str, ...]) -> None:
        """`routes`: the rules that are counted under their own name."""
        self._routes = (*routes, OTHER)
        self._route = {route: number for number, route in enumerate(self._routes)}
        # A row: the answers, then the durations by bound, then the sums of the durations (ns).
        self._durations = len(self._routes) * len(_METHODS) * len(_STATUSES)
        self._sums = self._durations + len(self._routes) * (len(BOUNDS) + 1)
        needed = (self._sums + len(self._routes)) * _BYTES
        self._row_bytes = -(-needed // ALLOCATIONGRANULARITY) * ALLOCATIONGRANULARITY
        self._file = _nameless_file()
        # One of its own, because a process that closes any descriptor of a file, as mmap does,
        # loses its locks on it.
        self._rows_taken = _nameless_file()
        self._lock = Lock()
        self._pid = 0
        self._row = memoryview(b"")

    def count(self, route: str, method: str, status: int, nanoseconds: int) -> None:
        """Count one answer; `nanoseconds` is the time from the request to its beginning."""
        number = self._route.get(route, len(self._routes) - 1)
        answer = number * len(_METHODS) + _METHOD.get(method, len(_METHODS) - 1)
        answer = answer * len(_STATUSES) + _STATUS.get(status, len(_STATUSES) - 1)
        duration = self._durations + number * (len(BOUNDS) + 1)
        duration += bisect_left(_BOUNDS_NS, nanoseconds)
        with self._lock:
            if self._pid != os.getpid():
                self._take_row()
            row = self._row
            row[answer] += 1
            row[duration] += 1
            row[self._sums + number] += nanoseconds

    def read(self) -> Counted:
        """Return what all processes have counted."""
        totals, size = self._totals(), len(BOUNDS) + 1
        labels = product(self._routes, _METHODS, _STATUSES)
        answers = {label: count for label, count in zip(labels, totals, strict=False) if count}
        durations = {}
        for number, route in enumerate(self._routes):
            counts = totals[self._durations + number * size:][:size]
            if any(counts):
                durations[route] = Durations(counts, totals[self._sums + number] / 1e9)
        return Counted(answers, durations)

    def _totals(self) -> list[int]:
        size = os.fstat(self._file).st_size
        if not size:
            return [0] * (self._row_bytes // _BYTES)
        with mmap(self._file, size, access=ACCESS_READ) as shared:
            # Not copied in one go, for that could read half of a count.
            values = memoryview(shared).cast("Q").tolist()
        length = self._row_bytes // _BYTES
        rows = (values[start:start + length] for start in range(0, len(values), length))
        return list(map(sum, zip(*rows, strict=True)))

    def _take_row(self) -> None:
        """Take the first row that no other process holds, with the counts that are in it."""
        number = 0
        while not self._locked(number):
            number += 1
        start, end = number * self._row_bytes, (number + 1) * self._row_bytes
        if os.fstat(self._file).st_size < end:  # never shorter, as it could be with truncate
            os.pwrite(self._file, b"\0", end - 1)
        self._row = memoryview(mmap(self._file, self._row_bytes, offset=start)).cast("Q")
        self._pid = os.getpid()

    def _locked(self, number: int) -> bool:
        try:
            fcntl.lockf(self._rows_taken, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, number)
        except OSError:
            return False
        return True


@cache
def http_counters(routes: tuple[str, ...]) -> HttpCounters:
    """Return the counters of this process for these rules, shared with the processes that it forks
    afterwards."""
    return HttpCounters(routes)


def _nameless_file() -> int:
    if hasattr(os, "memfd_create"):
        return os.memfd_create("http-counters")
    with TemporaryFile() as file:
        return os.dup(file.fileno())
