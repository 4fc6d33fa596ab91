"""Issues coupons: reads the request stream and decides entry after entry, until a signal."""

import logging
import os
import signal
import socket
import time

from redis import Redis
from redis.exceptions import RedisError

from coupon_service.config import Config, from_environment
from coupon_service.connection import connect
from coupon_service.issuance import Issuance
from coupon_service.keys import Keys
from coupon_service.outage import Outage
from coupon_service.scripts import Scripts
from coupon_service.stream import Entry, RequestStream

#: Milliseconds of one blocking read; a signal waits for its end at the longest.
BLOCK_MS = 500
#: Seconds that requests have to gather after a batch that was not full. A round trip for each
#: would cost the server, and the API beside it, more than the decisions.
GATHER = 0.005
#: Seconds between two looks for entries that a dead worker left behind.
CLAIM_EVERY = 1.0
#: Seconds between two looks for consumers that nobody needs any more.
FORGET_EVERY = 600.0
#: Seconds to wait before Redis is tried again after an error.
PAUSE = 0.5

log = logging.getLogger("worker")


class Worker:
    """One consumer of the request stream. Any number of them may run."""

    def __init__(self, client: Redis, config: Config) -> None:
        keys = Keys(config.key_prefix)
        consumer = config.consumer or f"{socket.gethostname()}-{os.getpid()}"
        self._config = config
        self._scripts = Scripts(client, keys, config.retention)
        self._stream = RequestStream(client, keys, consumer)
        self._issuance = Issuance(self._scripts)
        self.stopping = False
        self._outage = Outage()
        #: A broken read may have handed us entries that we never saw: look from this id on.
        self._own_after: str | None = "0"
        self._claim_at = 0.0
        self._forget_at = 0.0

    def run(self) -> None:
        """Decide requests until `stopping` is set; wait through every failure of Redis."""
        consumer = self._stream.consumer
        log.info("worker starts consumer=%s", consumer)
        while not self.stopping:
            try:
                if 0 < self.run_once() < self._config.worker_batch:
                    time.sleep(GATHER)
            except RedisError as error:
                if self.stopping:
                    return
                self.wait_out(error)
        log.info("worker stops consumer=%s", consumer)
        if not self._outage.ongoing:
            self._leave(consumer)

    def _leave(self, consumer: str) -> None:
        try:
            self._scripts.remove_consumer(consumer)
        except RedisError as error:
            log.warning("consumer is left for others to remove error=%s", error)

    def run_once(self) -> int:
        """Make one pass: entries that this worker holds already, or else new ones.

        Returns:
            How many entries were decided or put aside.

        Raises:
            redis.exceptions.RedisError: what was read and not decided stays pending.
        """
        if self._own_after is None:
            self._tidy_up()
        if self._own_after is None:
            entries = self._stream.read_new(self._config.worker_batch, BLOCK_MS)
        else:
            entries = self._own(self._own_after)
        decided = self._issuance.decide(entries)
        self._outage.end()
        return decided

    def _own(self, after: str) -> list[Entry]:
        entries = self._stream.read_own(after, self._config.worker_batch)
        self._own_after = entries[-1].entry_id if entries else None
        return entries

    def _tidy_up(self) -> None:
        now = time.monotonic()
        if now >= self._claim_at:
            self._claim_at = now + CLAIM_EVERY
            if self._stream.claim_stale(self._config.claim_idle_ms, self._config.worker_batch):
                self._claim_at = now
                self._own_after = "0"
        if now >= self._forget_at:
            self._forget_at = now + FORGET_EVERY
            for consumer in self._stream.idle_consumers():
                self._scripts.remove_consumer(consumer)

    def wait_out(self, error: RedisError) -> None:
        """Pause after a failure; the next pass begins with what this worker may hold."""
        self._own_after = "0"
        self._outage.begin(error)
        resume_at = time.monotonic() + PAUSE
        while not self.stopping and time.monotonic() < resume_at:
            time.sleep(0.05)


def main() -> None:
    """Run a worker with the settings of the environment until SIGTERM or SIGINT."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    # A line is written for each decision: what it does not show is not looked for, as the
    # documentation of logging says under "Optimization".
    logging.logThreads = logging.logProcesses = logging.logMultiprocessing = False
    logging._srcfile = None
    config = from_environment()
    # A read blocks inside the server, so its reply comes that much later. The loop itself
    # tries again after an error: a retry below it would only delay the answer to a signal.
    timeout = config.redis_timeout + BLOCK_MS / 1000
    client = connect(config.redis_url, timeout, 0, config.redis_verify)
    worker = Worker(client, config)

    def stop(*_: object) -> None:
        worker.stopping = True

    # The handler sets a flag and no more: an exception here could leave a reply unread.
    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)
    worker.run()


if __name__ == "__main__":
    main()
