"""A ledger in files of JSON lines, one for each day, UTC."""

import fcntl
import os
from collections.abc import Iterator
from datetime import UTC, datetime
from itertools import groupby, islice
from pathlib import Path

from coupon_service.ledger.errors import Busy, SinkError
from coupon_service.ledger.line import Line, from_json, to_json
from coupon_service.stream import parts

#: Bytes that are read at a time from the end of a file, to find its last line.
BLOCK = 1 << 16


class FileSink:
    """Lines in `folder`, in the order of their ids; created if missing.

    Each partition has files of its own, `ledger-2026-11-23.jsonl`, or `ledger-2026-11-23.3.jsonl`
    where there are several, and one process at a time that writes them: from `open` until it closes
    the sink or fails. Every method raises `SinkError`.
    """

    def __init__(self, folder: Path, partitions: int) -> None:
        self.name = f"file:{folder}"
        self._folder = folder
        self._several = partitions > 1
        self._locks: dict[int, int] = {}

    def open(self, partition: int) -> None:
        """Lock a partition, cut off a line that a crash has torn, and let what is left be on the
        disk.

        Raises:
            Busy: another process has locked it.
        """
        if partition in self._locks:
            return
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            self._lock(partition)
            for path in self._files(partition)[-1:]:
                with path.open("r+b") as file:
                    file.truncate(_last_line(path)[1])
                    os.fsync(file.fileno())
            _sync(self._folder)
        except OSError as error:
            self._unlock(partition)
            raise SinkError(f"{self.name}: {error}") from error

    def last(self, partition: int) -> Line | None:
        """Return the last whole line of a partition, if there is one."""
        try:
            for path in reversed(self._files(partition)):
                if line := _last_line(path)[0]:
                    return from_json(line.decode())
        except (OSError, LookupError, TypeError, ValueError) as error:
            raise SinkError(f"{self.name}: {error}") from error
        return None

    def append(self, partition: int, lines: list[Line]) -> None:
        """Write lines whose ids follow the last one, to a partition that is open; they are on the
        disk when this returns."""
        try:
            for day, of_day in groupby(lines, _day):
                path = self._folder / f"ledger-{day}{self._suffix(partition)}"
                is_new = not path.exists()
                with path.open("ab") as file:
                    file.write("".join(f"{to_json(line)}\n" for line in of_day).encode())
                    file.flush()
                    os.fsync(file.fileno())
                if is_new:
                    _sync(self._folder)
        except OSError as error:
            self._unlock(partition)  # a line may be torn, which is cut off when it is opened again
            raise SinkError(f"{self.name}: {error}") from error

    def pages(self, partition: int, after: str, size: int) -> Iterator[list[Line]]:
        """Yield the lines of a partition past the id `after`, `size` at a time."""
        try:
            lines = self._lines(partition, parts(after))
            while page := list(islice(lines, size)):
                yield page
        except (OSError, LookupError, TypeError, ValueError) as error:
            raise SinkError(f"{self.name}: {error}") from error

    def close(self) -> None:
        """Let another process write."""
        for partition in list(self._locks):
            self._unlock(partition)

    def _lines(self, partition: int, after: tuple[int, int]) -> Iterator[Line]:
        first = f"ledger-{_utc_day(after[0])}"
        for path in self._files(partition):
            if path.name >= first:
                with path.open("rb") as file:
                    for raw in file:  # the last may be torn, also within a character
                        if raw.endswith(b"\n") and parts(
                            (line := from_json(raw.decode())).log_id
                        ) > after:
                            yield line

    def _lock(self, partition: int) -> None:
        path = self._folder / f"ledger{self._suffix(partition).replace('jsonl', 'lock')}"
        descriptor = os.open(path, os.O_CREAT | os.O_RDWR, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(descriptor)
            raise Busy(f"{self.name}: another process writes it") from None
        self._locks[partition] = descriptor

    def _unlock(self, partition: int) -> None:
        if partition in self._locks:
            os.close(self._locks.pop(partition))

    def _files(self, partition: int) -> list[Path]:
        day = "[0-9]" * 4 + "-[0-9][0-9]-[0-9][0-9]"
        return sorted(self._folder.glob(f"ledger-{day}{self._suffix(partition)}"))

    def _suffix(self, partition: int) -> str:
        return f".{partition}.jsonl" if self._several else ".jsonl"


def _last_line(path: Path) -> tuple[bytes, int]:
    """The last line that was written to its end, and the bytes up to there."""
    with path.open("rb") as file:
        end = start = file.seek(0, os.SEEK_END)
        tail = b""
        while start and tail[:-1].count(b"\n") < 2:
            stop, start = start, max(start - BLOCK, 0)
            file.seek(start)
            tail = file.read(stop - start) + tail
    whole = tail[:tail.rfind(b"\n") + 1]
    return whole[:-1].rpartition(b"\n")[2], end - len(tail) + len(whole)


def _day(line: Line) -> str:
    return _utc_day(parts(line.log_id)[0])


def _utc_day(ms: int) -> str:
    return datetime.fromtimestamp(ms // 1000, UTC).strftime("%Y-%m-%d")


def _sync(folder: Path) -> None:
    """Put the name of a new file on the disk."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
