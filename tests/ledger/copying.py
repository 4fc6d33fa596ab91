"""What one process does to copy the log, and what the ledger has then."""

from coupon_service.ledger.copier import Copier
from coupon_service.ledger.line import from_log
from coupon_service.ledger.verify import differences, queryable
from coupon_service.scripts import Registration
from tests.state import KEYS, drain, operations_on


def copy(installation, sink):
    """What one process does until there is nothing more."""
    copier = Copier(installation, sink)
    while copier.step():
        pass


def logged(installation):
    """The log as the ledger should have it."""
    entries = installation.client.xrange(installation.keys.log)
    return [from_log(installation.partition, *entry) for entry in entries]


def add_lines(client, *ids):
    for log_id in ids:
        client.xadd(KEYS.of("A").log, {"couponId": "A", "decision": "x"}, id=log_id)


def lost_of(table):
    return table.lost_ranges(KEYS.all.index(KEYS.of("A")))


def a_life(client, coupons, worker):
    coupons.register(Registration("A", 2, {"closesAt": 8 * 10**12}))
    for user in ("u1", "한국", "u3"):
        coupons.request("A", user, f"r-{user}") if user != "u3" else None
    drain(client, worker)
    operations_on(client).cancel("A", "u1")


def found_by_verify(installation, sink):
    with queryable(sink, range(installation.partition + 1)) as (table, disorder):
        return [*disorder, *differences(installation, table)]
