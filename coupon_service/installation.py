"""The one assembly of the parts: for the API, the worker, the command line and the tests."""

from redis import Redis

from coupon_service.batching import Batches
from coupon_service.circuit_breaker import Bulkhead, CircuitBreaker
from coupon_service.config import Config
from coupon_service.coupons import Coupons
from coupon_service.decisions import Decisions
from coupon_service.keys import Keys
from coupon_service.migration import Migration
from coupon_service.removal import Removal
from coupon_service.scripts import CouponScripts, Scripts, WorkerScripts


class Installation:
    """The parts that work on the data of one Redis; nothing is sent before one of them is used."""

    def __init__(self, config: Config, client: Redis) -> None:
        self.config = config
        self.client = client
        self.keys = Keys(config.key_prefix)
        breaker = CircuitBreaker()
        #: For all calls but admissions, to which one connection is left.
        self.bulkhead = Bulkhead(breaker, config.redis_connections - 1)
        self.scripts = Scripts(client, self.keys)
        self.coupon_scripts = CouponScripts(self.scripts, config.retention)
        self.worker_scripts = WorkerScripts(self.scripts)
        self.coupons = Coupons(
            client, self.keys, self.coupon_scripts, self.bulkhead,
            Batches(self.coupon_scripts, breaker),
        )
        self.decisions = Decisions(self.worker_scripts)
        self.removal = Removal(client, self.keys, self.worker_scripts)
        self.migration = Migration(client, self.keys, self.worker_scripts)
