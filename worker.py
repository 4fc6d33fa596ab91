"""Issues coupons: reads the request stream and decides its entries, until a signal."""

import logging
import os
import signal
import socket
import sys
import time
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import suppress

from redis.exceptions import RedisError

from coupon_service import logs
from coupon_service.circuit_breaker import Outage
from coupon_service.config import from_environment
from coupon_service.errors import ConfigError
from coupon_service.installation import Installation, Partitions
from coupon_service.migration import UnusableData
from coupon_service.stream import Entry, RequestStream

#: Milliseconds of one blocking read, and the longest that a signal has to wait.
BLOCK_MS = 500
#: Seconds that requests have to gather after a batch that was not full. A round trip for each
#: would cost the server, and the API beside it, more than the decisions.
GATHER = 0.005
#: Seconds between two searches for entries that a dead worker left, and for coupons to remove.
SWEEP_EVERY = 1.0
#: Seconds between two searches for consumers that are not needed any more.
CONSUMERS_EVERY = 600.0
#: Seconds to wait before Redis is tried again after an error.
PAUSE = 0.5

log = logging.getLogger("worker")


class Worker:
    """One consumer of the request stream. Any number of them may run."""

    def __init__(self, installation: Installation) -> None:
        config = installation.config
        consumer = config.consumer or f"{socket.gethostname()}-{os.getpid()}"
        self._config = config
        self._stream = RequestStream(installation.client, installation.keys, consumer)
        self._decisions = installation.decisions
        self._removal = installation.removal
        self._migration = installation.migration
        self._scripts = installation.worker_scripts
        self.stopping = False
        self._outage = Outage(installation.label)
        self._label = installation.label
        self._migrated = False
        #: The server may have given this consumer entries in a reply that was lost: those after
        #: this id are read again. None: there are none.
        self._own_after: str | None = "0"
        #: The coupon that is being removed, or None.
        self._due: str | None = None
        #: Whether there may be lines of the log to trim.
        self._surplus = False
        self._sweep_at = 0.0
        self._consumers_at = 0.0

    def run(self) -> None:
        """Decide requests until `stopping` is set; wait through every failure of Redis.

        Raises:
            UnusableData: the data was written by a later version, or with other partitions.
        """
        consumer = self._stream.consumer
        while not self.stopping:
            try:
                if not self._migrated:
                    self._migrate()
                if 0 < self.run_once() < self._config.worker_batch:
                    time.sleep(GATHER)
            except RedisError as error:
                if self.stopping:
                    return
                self.wait_out(error)
        if self._migrated:
            log.info("worker stops consumer=%s%s", consumer, self._label)
            if not self._outage.ongoing:
                self._leave(consumer)

    def _migrate(self) -> None:
        if count := self._migration.run():
            log.info("data is of format 2 now coupons=%d", count)
        self._migrated = True
        log.info("worker starts consumer=%s%s", self._stream.consumer, self._label)

    def _leave(self, consumer: str) -> None:
        try:
            self._scripts.remove_consumer(consumer)
        except RedisError as error:
            log.warning("consumer is left for others to remove error=%s", error)

    def run_once(self) -> int:
        """Make one pass: decide the entries that this worker holds already, or else new ones,
        remove a page of what is due, and trim one of the log.

        Returns:
            How many entries were decided or became dead letters.

        Raises:
            redis.exceptions.RedisError: what was read and not decided stays pending.
        """
        if self._own_after is None:
            self._sweep()
        if self._own_after is None:
            # While something is due there is work: the read does not wait for more.
            block_ms = None if self._due or self._surplus else BLOCK_MS
            entries = self._stream.read_new(self._config.worker_batch, block_ms)
        else:
            entries = self._own(self._own_after)
        decided = self._decisions.decide(entries)
        if self._due and not self._removal.remove_page(self._due):
            self._due = self._removal.next_due()
        self._surplus = self._surplus and self._scripts.trim(self._config.log_keep)
        self._outage.end()
        return decided

    def _own(self, after: str) -> list[Entry]:
        entries = self._stream.read_own(after, self._config.worker_batch)
        self._own_after = entries[-1].entry_id if entries else None
        return entries

    def _sweep(self) -> None:
        now = time.monotonic()
        if now >= self._sweep_at:
            self._sweep_at = now + SWEEP_EVERY
            if self._stream.claim_stale(self._config.claim_idle_ms, self._config.worker_batch):
                self._sweep_at = now
                self._own_after = "0"
            self._due = self._due or self._removal.next_due()
            self._surplus = self._config.log_keep > 0
        if now >= self._consumers_at:
            self._consumers_at = now + CONSUMERS_EVERY
            for consumer in self._stream.idle_consumers():
                self._scripts.remove_consumer(consumer)

    def wait_out(self, error: RedisError) -> None:
        """Pause after a failure; the next pass begins with what this worker may hold."""
        self._own_after = "0"
        self._outage.begin(error)
        resume_at = time.monotonic() + PAUSE
        while not self.stopping and time.monotonic() < resume_at:
            time.sleep(0.05)


def run(workers: list[Worker]) -> None:
    """Run workers until they are stopped: one alone in this thread, several in a thread each, so
    that an outage of one partition delays no other.

    Raises:
        UnusableData: see `Worker.run`. Whatever ends one worker ends all.
    """
    if len(workers) == 1:
        return workers[0].run()
    with ThreadPoolExecutor(len(workers)) as threads:
        try:
            for ended in as_completed([threads.submit(worker.run) for worker in workers]):
                ended.result()
        finally:
            stop(workers)


def stop(workers: list[Worker]) -> None:
    """Let each worker finish its batch."""
    for worker in workers:
        worker.stopping = True


def main() -> None:
    """Run a worker with the settings of the environment until SIGTERM or SIGINT."""
    # A line is written for each decision: what it does not show is not determined, see
    # "Optimization" in the documentation of logging.
    logging.logThreads = logging.logProcesses = logging.logMultiprocessing = False
    logging._srcfile = None
    try:
        config = from_environment()
        logs.configure(config)
        # A read blocks inside the server, so its reply comes that much later. The loop itself
        # tries again after an error: a retry below it would only delay the answer to a signal.
        timeout = config.redis_timeout + BLOCK_MS / 1000
        partitions = Partitions(config, None, timeout, retries=0)
        with suppress(RedisError):  # then each worker waits until it can check its own
            for installation in partitions:
                installation.migration.check()
    except (ConfigError, UnusableData) as error:
        sys.exit(str(error))
    workers = [
        Worker(installation) for installation in partitions
        if not config.worker_partitions or installation.partition in config.worker_partitions
    ]

    # The handler sets a flag and no more, because an exception here could leave a reply unread.
    signal.signal(signal.SIGTERM, lambda *_: stop(workers))
    signal.signal(signal.SIGINT, lambda *_: stop(workers))
    try:
        run(workers)
    except UnusableData as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
