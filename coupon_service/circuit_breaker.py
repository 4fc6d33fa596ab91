"""Logs an outage of Redis once, and fails fast until Redis answers again."""

import logging
import time
from threading import BoundedSemaphore
from types import TracebackType

from redis.exceptions import ConnectionError, RedisError, TimeoutError

from coupon_service.errors import Misconfigured, Unavailable, is_corrupt_data, is_outage

log = logging.getLogger(__name__)

#: Seconds between two requests that try a Redis that did not answer.
PROBE_EVERY = 1.0
#: Seconds after which a client may ask again.
RETRY_AFTER = 1

#: Seconds that a call waits for its turn; long, because Redis is well while it does.
TURN_WITHIN = 5.0

_ASK_AGAIN = "the service cannot use its data at the moment, ask again"


class Outage:
    """Logs the first failure of an outage, and its length when it is over."""

    def __init__(self, label: str = "") -> None:
        """`label` is put into the log lines to say which of several servers is meant."""
        self._label = label
        self._since: float | None = None

    @property
    def ongoing(self) -> bool:
        """Whether the last thing noted was a failure."""
        return self._since is not None

    def begin(self, error: RedisError) -> None:
        """Note a failure; only the first one since `end` is logged."""
        if not self.ongoing:
            self._since = time.monotonic()
            log.error("waiting for redis%s error=%s", self._label, error)

    def end(self) -> None:
        """Note that Redis has answered."""
        since, self._since = self._since, None
        if since is not None:
            log.warning("redis is back after %.1f s%s", time.monotonic() - since, self._label)


class CircuitBreaker(Outage):
    """A context for calls of Redis that turns outages into `Unavailable`, and what Redis refuses
    for good into `Misconfigured`; errors of corrupt data pass.

    While Redis does not answer at all the breaker is open: one call a second is let through as a
    probe, and the others fail at once, because threads must not queue up behind the timeout of a
    dead server. Threads share a breaker without a lock, so each attribute is read once where it may
    change.
    """

    def __init__(self, label: str = "") -> None:
        super().__init__(label)
        self._probe_at: float | None = None

    def __enter__(self) -> None:
        probe_at, now = self._probe_at, time.monotonic()
        if probe_at is None:
            return
        if now < probe_at:
            raise Unavailable(_ASK_AGAIN, RETRY_AFTER)
        self._probe_at = now + PROBE_EVERY

    def __exit__(
        self, kind: type | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if isinstance(error, RedisError) and is_outage(error):
            self.begin(error)
            if isinstance(error, (ConnectionError, TimeoutError)):
                self._probe_at = time.monotonic() + PROBE_EVERY
            raise Unavailable(_ASK_AGAIN, RETRY_AFTER) from error
        self._probe_at = None
        self.end()
        if isinstance(error, RedisError) and not is_corrupt_data(error):
            raise Misconfigured("redis refuses a command of the service") from error


class Bulkhead:
    """A context as its breaker is, but for `turns` calls at a time: the others wait for theirs.

    Without it the calls of many users would take all connections, and leave none for admissions.
    """

    def __init__(self, breaker: CircuitBreaker, turns: int) -> None:
        self._breaker = breaker
        self._turns = BoundedSemaphore(turns)

    def __enter__(self) -> None:
        if not self._turns.acquire(timeout=TURN_WITHIN):
            raise Unavailable(_ASK_AGAIN, RETRY_AFTER)
        try:
            self._breaker.__enter__()
        except Unavailable:
            self._turns.release()
            raise

    def __exit__(
        self, kind: type | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._turns.release()
        self._breaker.__exit__(kind, error, trace)
