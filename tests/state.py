"""What is in Redis, and whether it agrees with itself."""

from redis import Redis

from coupon_service.keys import Keys
from worker import Worker

KEYS = Keys()


def drain(client: Redis, worker: Worker) -> None:
    """Let `worker` decide all that is on the stream."""
    for _ in range(1000):
        if not client.xlen(KEYS.requests):
            return
        worker.run_once()
    raise AssertionError("the worker does not get on")


def everything(client: Redis) -> dict[str, object]:
    """The whole data, by key, for comparing before and after."""
    readers = {
        "string": client.get,
        "hash": client.hgetall,
        "set": client.smembers,
        "stream": lambda key: client.xrange(key),
    }
    return {key: readers[client.type(key)](key) for key in client.scan_iter()}


def assert_consistent(client: Redis, coupon_id: str) -> None:
    """Check, from the marks and the log and not from counters, that all counters agree."""
    coupon = client.hgetall(KEYS.coupon(coupon_id))
    marks = list(client.scan_iter(KEYS.user(coupon_id, "*")))
    issued = [
        entry["userId"] for _, entry in client.xrange(KEYS.log)
        if entry["couponId"] == coupon_id and entry["decision"] == "issued"
    ]
    assert sorted(KEYS.user(coupon_id, user) for user in issued) == sorted(marks)
    stock = int(client.get(KEYS.stock(coupon_id)))
    assert stock >= 0
    assert int(coupon["quantity"]) == stock + len(issued)
    pending = client.hlen(KEYS.pending(coupon_id))
    assert int(client.get(KEYS.requested(coupon_id))) == len(issued) + pending
