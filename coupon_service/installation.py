"""The one assembly of the parts: for the API, the worker, the command line and the tests."""

from collections.abc import Iterator
from zlib import crc32

from redis import Redis

from coupon_service.batching import Batches
from coupon_service.circuit_breaker import Bulkhead, CircuitBreaker
from coupon_service.config import Config
from coupon_service.connection import connect
from coupon_service.coupon_scripts import CouponScripts
from coupon_service.coupons import Coupons
from coupon_service.decisions import Decisions
from coupon_service.keys import Keys
from coupon_service.migration import Migration
from coupon_service.own_connection import OwnConnection
from coupon_service.removal import Removal
from coupon_service.scripts import Registration, Scripts
from coupon_service.worker_scripts import WorkerScripts


class Installation:
    """The parts that work on the data of one partition; nothing is sent before one is used."""

    def __init__(self, config: Config, client: Redis, partition: int = 0) -> None:
        self.config = config
        self.client = client
        self.partition = partition
        self.keys = Keys(config.prefix(partition))
        #: What an outage is logged with.
        self.label = f" partition={partition}" if config.partitions > 1 else ""
        breaker = CircuitBreaker(self.label)
        #: For all calls but admissions and polls, to each of which one connection is left.
        self.bulkhead = Bulkhead(breaker, config.redis_connections - 2)
        self.scripts = Scripts(client, self.keys)
        self.coupon_scripts = CouponScripts(self.scripts, config)
        self.worker_scripts = WorkerScripts(self.scripts)
        self.coupons = Coupons(
            client, self.keys, self.coupon_scripts, self.bulkhead,
            Batches(CouponScripts(self._own_scripts(), config).admit, breaker),
            Batches(CouponScripts(self._own_scripts(), config).status, breaker),
        )
        self.decisions = Decisions(WorkerScripts(self._own_scripts()))
        self.removal = Removal(client, self.keys, self.worker_scripts)
        self.migration = Migration(client, self.keys, self.worker_scripts, config)

    def _own_scripts(self) -> Scripts:
        return Scripts(self.client, self.keys, OwnConnection(self.client))


class Partitions:
    """The installations over which the coupons are spread; mostly there is one.

    A coupon and everything that belongs to it is in one partition, so that nothing but what
    concerns many coupons knows of the others.
    """

    def __init__(
        self, config: Config, client: Redis | None = None, timeout: float | None = None,
        retries: int = 1,
    ) -> None:
        """Make a client for each, see `connection.connect`, unless one for all is given."""
        self.config = config
        self._all = [
            Installation(config, client or connect(config, timeout, retries, number), number)
            for number in range(config.partitions)
        ]

    def __iter__(self) -> Iterator[Installation]:
        return iter(self._all)

    def of(self, coupon_id: str) -> Installation:
        """Return the installation that has a coupon, registered or not."""
        return self._all[crc32(coupon_id.encode()) % len(self._all)]

    def by_installation(self, coupon_ids: list[str]) -> dict[Installation, list[str]]:
        """Group ids by the installation that has them, in their order."""
        grouped: dict[Installation, list[str]] = {}
        for coupon_id in coupon_ids:
            grouped.setdefault(self.of(coupon_id), []).append(coupon_id)
        return grouped

    def register(self, *registrations: Registration) -> list[dict[str, object]]:
        """Register coupons, all of them or none, as `Coupons.register` does.

        Where they belong to several partitions all are checked before the first is registered.
        Should one be refused, or its partition fail, after that, the ones before stay registered:
        the call can be repeated.
        """
        given = {registration.coupon_id: registration for registration in registrations}
        grouped = self.by_installation([each.coupon_id for each in registrations])
        if len(grouped) > 1:
            for installation, ids in grouped.items():
                installation.coupons.register(*(given[each] for each in ids), only_check=True)
        answers: dict[str, dict[str, object]] = {}
        for installation, ids in grouped.items():
            registered = installation.coupons.register(*(given[each] for each in ids))
            answers |= dict(zip(ids, registered, strict=True))
        return [answers[registration.coupon_id] for registration in registrations]
