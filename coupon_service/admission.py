"""Lets the requests that wait in a process at the same moment share one round trip."""

from collections import deque
from threading import Lock

from redis.exceptions import RedisError

from coupon_service.outage import Gate
from coupon_service.scripts import Ask, Scripts

#: Requests that share a round trip at the most: while they are decided, Redis does nothing else.
MOST = 500


class _Waiting:
    """A request on its way, and what became of it."""

    def __init__(self, ask: Ask) -> None:
        self.ask = ask
        self.outcome: list[str] | BaseException | None = None


class Admission:
    """Admits requests in the order in which they come, of any number of threads.

    One round trip is under way at a time. Who comes meanwhile waits, and the first of those who
    waited sends for all of them: the more requests, the more of them share what it costs.
    """

    def __init__(self, scripts: Scripts, gate: Gate) -> None:
        self._scripts = scripts
        self._gate = gate
        self._waiting = deque[_Waiting]()
        self._turn = Lock()

    def admit(self, ask: Ask) -> list[str]:
        """Have one request admitted or refused; see `Scripts.admit` for what is returned.

        Raises:
            Unavailable: Redis cannot be used now.
            redis.exceptions.ResponseError: the stored data is corrupt.
        """
        mine = _Waiting(ask)
        self._waiting.append(mine)
        with self._turn:
            while mine.outcome is None:
                count = min(len(self._waiting), MOST)
                self._send([self._waiting.popleft() for _ in range(count)])
        if isinstance(mine.outcome, BaseException):
            raise mine.outcome
        return mine.outcome

    def _send(self, waiting: list[_Waiting]) -> None:
        try:
            with self._gate:
                outcomes = self._scripts.admit([each.ask for each in waiting])
                errors = []
                for each, outcome in zip(waiting, outcomes, strict=True):
                    if isinstance(outcome, RedisError):
                        errors.append(outcome)
                    else:
                        each.outcome = outcome
                if errors:
                    raise errors[0]
        except BaseException as error:
            # Nobody else would answer those who wait for this round trip.
            for each in waiting:
                each.outcome = each.outcome or error
