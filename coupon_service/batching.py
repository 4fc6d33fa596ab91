"""Group commit: the requests that wait in a process at the same moment share one round trip."""

from collections import deque
from collections.abc import Callable, Sequence
from threading import Lock
from typing import Any

from redis.exceptions import RedisError

from coupon_service.circuit_breaker import CircuitBreaker
from coupon_service.errors import is_corrupt_data, is_outage
from coupon_service.scripts import Request

#: Requests of one round trip: while they are answered, Redis does nothing else.
MAX_BATCH = 500


class _Waiting:
    """A request on its way, and what became of it."""

    def __init__(self, request: Request) -> None:
        self.request = request
        self.outcome: Any = None


class Batches:
    """Sends what any number of threads ask, in the order in which they come.

    One round trip is under way at a time. The requests that come meanwhile wait, and the thread of
    the first one sends all of them: the more requests there are, the less each costs.
    """

    def __init__(
        self, ask_together: Callable[[Sequence[Request]], list[Any]], breaker: CircuitBreaker
    ) -> None:
        """`ask_together` returns an answer to each request, or the error that it has met."""
        self._ask_together = ask_together
        self._breaker = breaker
        self._waiting = deque[_Waiting]()
        self._turn = Lock()

    def ask(self, request: Request) -> Any:
        """Return the answer to one request.

        Raises:
            Unavailable: Redis cannot be used now.
            redis.exceptions.ResponseError: the stored data is corrupt.
        """
        mine = _Waiting(request)
        self._waiting.append(mine)
        with self._turn:
            while mine.outcome is None:
                count = min(len(self._waiting), MAX_BATCH)
                self._send([self._waiting.popleft() for _ in range(count)])
        if isinstance(mine.outcome, BaseException):
            raise mine.outcome
        return mine.outcome

    def _send(self, waiting: list[_Waiting]) -> None:
        try:
            with self._breaker:
                outcomes = self._ask_together([each.request for each in waiting])
                failures = []
                for each, outcome in zip(waiting, outcomes, strict=True):
                    if isinstance(outcome, RedisError) and not is_corrupt_data(outcome):
                        failures.append(outcome)
                    else:
                        each.outcome = outcome
                if failures:
                    raise max(failures, key=is_outage)
        except BaseException as error:
            # No other thread would answer the requests of this round trip.
            for each in waiting:
                each.outcome = each.outcome or error
