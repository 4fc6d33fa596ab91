"""Data as the service itself makes it, in large amounts."""

from redis import Redis

from bench.peers import PLENTY
from coupon_service.config import Config
from coupon_service.connection import connect
from coupon_service.scripts import Registration, Request
from tests.state import KEYS, scripts_on, worker_on

#: Requests that are admitted, and decided, at a time.
BATCH = 500


def issue(client: Redis, coupon_id: str, count: int) -> None:
    """Register a coupon with plenty left, and issue it to `count` users."""
    scripts = scripts_on(client)
    scripts.register([Registration(coupon_id, PLENTY)])
    connection = client.connection_pool.connection_kwargs
    url = f"redis://{connection['host']}:{connection['port']}/0"
    worker = worker_on(connect(Config(redis_url=url), 30, 0), worker_batch=BATCH)
    for start in range(0, count, BATCH):
        numbers = range(start, min(start + BATCH, count))
        requests = [
            Request(coupon_id, f"user{number}", f"request{number:08}") for number in numbers
        ]
        assert scripts.admit(requests) == [["accepted"]] * len(requests)
        while client.xlen(KEYS.requests):
            worker.run_once()
