"""How much is measured."""

from typing import NamedTuple


class Scale(NamedTuple):
    """Seconds, rounds and numbers of one run."""

    rounds: int
    #: Seconds under load of each service, in each round.
    seconds: int
    #: Connections that ask all the time.
    connections: tuple[int, ...]
    sale_rounds: int
    #: Coupons, users and connections of the flash sale.
    coupons: int
    users: int
    crowd: int
    #: Decisions that a worker makes, and that the literal one makes.
    decisions: int
    literal_decisions: int
    issued: tuple[int, ...]
    campaigns: tuple[int, ...]
    #: Users whose memory is measured.
    remembered: int


FULL = Scale(5, 2, (8, 64, 256), 3, 1000, 50_000, 1000, 100_000, 10_000,
             (1_000, 100_000, 1_000_000), (1, 100, 10_000), 100_000)
#: For finding out that everything works and is exact; its figures mean nothing.
QUICK = Scale(1, 1, (64,), 1, 100, 2_000, 200, 5_000, 1_000, (100, 1_000), (1, 100), 2_000)
