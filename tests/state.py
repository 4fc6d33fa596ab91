"""What is in Redis, and whether it agrees with itself."""

from redis import Redis

from coupon_service.admin.operations import Operations
from coupon_service.admin.scripts import AdminScripts
from coupon_service.config import Config
from coupon_service.coupons import Coupons
from coupon_service.installation import Installation
from coupon_service.keys import Keys
from coupon_service.scripts import CouponScripts, WorkerScripts
from worker import Worker

KEYS = Keys()


class AllScripts(CouponScripts, WorkerScripts, AdminScripts):
    """Every script of an installation."""


def installation_on(client: Redis, **settings: object) -> Installation:
    return Installation(Config(**settings), client)


def scripts_on(client: Redis, **settings: object) -> AllScripts:
    installation = installation_on(client, **settings)
    return AllScripts(installation.scripts, installation.config.retention)


def coupons_on(client: Redis, **settings: object) -> Coupons:
    return installation_on(client, **settings).coupons


def operations_on(client: Redis) -> Operations:
    return Operations(installation_on(client))


def worker_on(client: Redis, **settings: object) -> Worker:
    return Worker(installation_on(client, **settings))


def drain(client: Redis, worker: Worker) -> None:
    """Let `worker` decide all that is on the stream."""
    for _ in range(1000):
        if not client.xlen(KEYS.requests):
            return
        worker.run_once()
    raise AssertionError("the worker does not get on")


def many_issued(client: Redis, count: int) -> None:
    """Make a coupon A with `count` issuances, written as issue.lua writes them."""
    client.hset(KEYS.coupon("A"), mapping={"quantity": count, "registeredAt": 0})
    client.mset({KEYS.stock("A"): 0, KEYS.requested("A"): count})
    with client.pipeline(transaction=False) as pipeline:
        for number in range(1, count + 1):
            pipeline.set(KEYS.user("A", f"u{number}"), f"r {number}-0")
            pipeline.xadd(KEYS.issuances("A"), {"userId": f"u{number}"}, id=f"{number}-0")
            if number % 5000 == 0 or number == count:
                pipeline.execute()


def everything(client: Redis) -> dict[str, object]:
    """The whole data, by key, for comparing before and after."""
    readers = {
        "string": client.get,
        "hash": client.hgetall,
        "set": client.smembers,
        "zset": lambda key: client.zrange(key, 0, -1, withscores=True),
        "stream": lambda key: client.xrange(key),
    }
    return {key: readers[client.type(key)](key) for key in client.scan_iter()}


def assert_consistent(client: Redis, *coupon_ids: str) -> None:
    """Check, from the marks and the log and not from counters, that all counters agree."""
    marks = set(client.scan_iter(KEYS.user("*", "*"), count=1000))
    since = {each: client.hget(KEYS.coupon(each), "since") or "0-0" for each in coupon_ids}
    holders = set[tuple[str, str]]()
    for _, entry in client.xrange(KEYS.log):
        coupon_id, pair = entry["couponId"], (entry["couponId"], entry["userId"])
        if coupon_id not in since:
            continue
        if entry["decision"] == "issued":
            # Otherwise it is of a coupon that had this id before.
            if _parts(entry["entryId"]) <= _parts(since[coupon_id]):
                continue
            assert pair not in holders, "issued twice"
            holders.add(pair)
        elif entry["decision"] == "cancelled":
            holders.discard(pair)
    for coupon_id in coupon_ids:
        users = {user for coupon, user in holders if coupon == coupon_id}
        _assert_consistent(client, coupon_id, users, marks)


def _parts(stream_id: str) -> tuple[int, int]:
    ms, _, sequence = stream_id.partition("-")
    return int(ms), int(sequence or 0)


def _assert_consistent(client: Redis, coupon_id: str, issued: set[str], marks: set[str]) -> None:
    start = KEYS.user(coupon_id, "")
    assert {start + user for user in issued} == {mark for mark in marks if mark.startswith(start)}
    coupon = client.hgetall(KEYS.coupon(coupon_id))
    stock = int(client.get(KEYS.stock(coupon_id)))
    assert stock >= 0
    assert int(coupon["quantity"]) == stock + len(issued)
    pending = client.hlen(KEYS.pending(coupon_id))
    assert int(client.get(KEYS.requested(coupon_id))) == len(issued) + pending
