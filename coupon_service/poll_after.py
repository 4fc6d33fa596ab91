"""When clients ask again: an estimate of each process from what the status polls find anyway."""

#: Milliseconds after which a client is told to ask again, at the least and at the most.
SHORTEST_MS, LONGEST_MS = 50, 1000
#: Milliseconds; an issuance that is older was not waited for any more, and says nothing.
RECENT_MS = 10_000
#: By this a poll that finds its request decided shortens the wait of those to come.
SHORTENED = 0.9


class PollAfter:
    """The time to decision as polls have lately found it, in ms. Ages are by the clock of Redis."""

    def __init__(self) -> None:
        self._ms = float(SHORTEST_MS)

    @property
    def ms(self) -> int:
        """When to ask for the first time after a request was accepted, in ms from then."""
        return int(self._ms)

    def pending(self, age_ms: int) -> int:
        """Note that a request of this age is pending. Returns after how many ms to ask for it
        again: as long as it has waited, so that the polls of a long wait are few."""
        bounded = min(max(age_ms, SHORTEST_MS), LONGEST_MS)
        self._ms = max(self._ms, float(bounded))
        return bounded

    def issued(self, age_ms: int) -> None:
        """Note that a poll has found its request issued, `age_ms` after the issuance."""
        if age_ms < RECENT_MS:
            self._ms = max(self._ms * SHORTENED, float(SHORTEST_MS))
