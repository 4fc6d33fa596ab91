"""What is in Redis, and whether it agrees with itself."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any
from zlib import crc32

from redis import Redis

from coupon_service.admin import scatter_gather
from coupon_service.admin.operations import Operations
from coupon_service.admin.scripts import AdminScripts
from coupon_service.config import Config
from coupon_service.coupon_scripts import CouponScripts
from coupon_service.installation import Installation, Partitions
from coupon_service.keys import GROUP, Keys
from coupon_service.worker_scripts import WorkerScripts
from worker import Worker

#: Partitions with which every test here and in this process runs, on one server.
PARTITIONS = int(os.environ.get("COUPON_TEST_PARTITIONS") or 1)


class RoutedKeys(Keys):
    """The keys of all partitions: those of a coupon are in its own; what belongs to none of them
    is that of coupon A."""

    def __init__(self) -> None:
        self.all = [Keys(Config(partitions=PARTITIONS).prefix(n)) for n in range(PARTITIONS)]
        super().__init__(self.of("A").prefix)

    def of(self, coupon_id: str) -> Keys:
        """The keys of the partition of a coupon."""
        return self.all[crc32(coupon_id.encode()) % PARTITIONS]

    def coupon(self, coupon_id: str) -> str:
        return self.of(coupon_id).coupon(coupon_id)

    def stock(self, coupon_id: str) -> str:
        return self.of(coupon_id).stock(coupon_id)

    def requested(self, coupon_id: str) -> str:
        return self.of(coupon_id).requested(coupon_id)

    def pending(self, coupon_id: str) -> str:
        return self.of(coupon_id).pending(coupon_id)

    def issuances(self, coupon_id: str) -> str:
        return self.of(coupon_id).issuances(coupon_id)

    def series(self, coupon_id: str) -> str:
        return self.of(coupon_id).series(coupon_id)

    def user(self, coupon_id: str, user_id: str) -> str:
        return self.of(coupon_id).user(coupon_id, user_id)


KEYS = RoutedKeys()


class AllScripts(CouponScripts, WorkerScripts, AdminScripts):
    """Every script of an installation."""

    def __init__(self, installation: Installation) -> None:
        super().__init__(installation.scripts, installation.config)


class AllCoupons:
    """The `Coupons` of all partitions: a call goes to that of the coupon."""

    def __init__(self, partitions: Partitions) -> None:
        self._of = partitions.of
        self.register = partitions.register

    def __getattr__(self, name: str) -> Callable[..., Any]:
        return lambda coupon_id, *rest: getattr(self._of(coupon_id).coupons, name)(coupon_id, *rest)


class AllOperations:
    """The `Operations` of all partitions."""

    def __init__(self, partitions: Partitions) -> None:
        self._partitions = partitions

    def coupons(self, limit: int) -> list[dict[str, Any]]:
        return scatter_gather.list_coupons(self._partitions, limit)[0]

    def held_by(self, user_id: str) -> list[dict[str, Any]]:
        return scatter_gather.held_by(self._partitions, user_id)[0]

    def __getattr__(self, name: str) -> Callable[..., Any]:
        def call(coupon_id: str, *rest: Any) -> Any:
            return getattr(Operations(self._partitions.of(coupon_id)), name)(coupon_id, *rest)

        return call


class AllWorkers(Worker):
    """The worker of coupon A's partition; a pass of it is one of each partition that has something
    to do, or else its own, because the others would wait for more."""

    def __init__(self, partitions: Partitions) -> None:
        mine = partitions.of("A")
        super().__init__(mine)
        others = {each: Worker(each) for each in partitions if each is not mine}
        self.others = list(others.values())
        self._passes = {each: worker.run_once for each, worker in others.items()}
        self._passes[mine] = super().run_once

    def run_once(self) -> int:
        busy = [
            run for each, run in self._passes.items()
            if each.client.xlen(each.keys.requests) or each.client.zcard(each.keys.removals)
        ]
        return sum(run() for run in busy or [super().run_once])


def config_with(**settings: Any) -> Config:
    return Config(**{"partitions": PARTITIONS, **settings})


def partitions_on(client: Redis, **settings: Any) -> Partitions:
    return Partitions(config_with(**settings), client)


def installation_on(client: Redis, coupon_id: str = "A", **settings: object) -> Installation:
    return partitions_on(client, **settings).of(coupon_id)


def scripts_on(client: Redis, coupon_id: str = "A", **settings: object) -> AllScripts:
    return AllScripts(installation_on(client, coupon_id, **settings))


def coupons_on(client: Redis, **settings: object) -> AllCoupons:
    return AllCoupons(partitions_on(client, **settings))


def operations_on(client: Redis) -> AllOperations:
    return AllOperations(partitions_on(client))


def worker_on(client: Redis, **settings: object) -> Worker:
    return AllWorkers(partitions_on(client, **settings))


def of_each(data: Redis | Partitions) -> list[tuple[Redis, Keys]]:
    """A client and the keys of each partition; of those on one server by its client."""
    if isinstance(data, Partitions):
        return [(each.client, each.keys) for each in data]
    return [(data, keys) for keys in KEYS.all]


def backlog(data: Redis | Partitions) -> int:
    """How many entries are on the request streams."""
    return sum(client.xlen(keys.requests) for client, keys in of_each(data))


def held(data: Redis | Partitions) -> int:
    """How many entries workers have been given and not acknowledged."""
    return sum(
        client.xpending(keys.requests, GROUP)["pending"] for client, keys in of_each(data)
        if client.exists(keys.requests)
    )


def log_lines(data: Redis | Partitions) -> list[tuple[str, dict[str, str]]]:
    """The lines of all logs, by their ids."""
    lines = [line for client, keys in of_each(data) for line in client.xrange(keys.log)]
    return sorted(lines, key=lambda line: _parts(line[0]))


def decided(data: Redis | Partitions) -> list[tuple[str, dict[str, str]]]:
    """The lines of all logs that concern a request, by their ids."""
    return [(line_id, line) for line_id, line in log_lines(data) if "userId" in line]


def drain(client: Redis, worker: Worker) -> None:
    """Let `worker` decide all that is on the stream."""
    for _ in range(1000):
        if not backlog(client):
            return
        worker.run_once()
    raise AssertionError("the worker does not get on")


def many_issued(client: Redis, count: int, width: int = 0) -> None:
    """Make a coupon A with `count` issuances, written as issue.lua writes them, to users whose
    numbers have at least `width` digits."""
    client.hset(KEYS.coupon("A"), mapping={"quantity": count, "registeredAt": 0})
    client.mset({KEYS.stock("A"): 0, KEYS.requested("A"): count})
    with client.pipeline(transaction=False) as pipeline:
        for number in range(1, count + 1):
            user = f"u{number:0{width}}"
            pipeline.set(KEYS.user("A", user), f"r {number}-0")
            pipeline.xadd(KEYS.issuances("A"), {"userId": user}, id=f"{number}-0")
            if number % 5000 == 0 or number == count:
                pipeline.execute()


def load_format_1(client: Redis) -> None:
    """Write the data of version 0.1 that tests/data has."""
    fixture = json.loads((Path(__file__).parent / "data" / "format1.json").read_text())
    for key, stored in fixture["keys"].items():
        kind, value = stored["type"], stored["value"]
        if kind == "string":
            client.set(key, value)
        elif kind == "hash":
            client.hset(key, mapping=value)
        elif kind == "set":
            client.sadd(key, *value)
        else:
            for entry_id, fields in value:
                client.xadd(key, fields, id=entry_id)
        if stored["expiresAtMs"] >= 0:
            client.pexpireat(key, stored["expiresAtMs"])


def everything(client: Redis) -> dict[str, object]:
    """The whole data, by key, for comparing before and after; but for the number of partitions,
    which each process records when it starts."""
    readers = {
        "string": client.get,
        "hash": client.hgetall,
        "set": client.smembers,
        "zset": lambda key: client.zrange(key, 0, -1, withscores=True),
        "stream": lambda key: client.xrange(key),
    }
    numbers = {keys.partitions for keys in KEYS.all}
    return {key: readers[client.type(key)](key) for key in client.scan_iter() if key not in numbers}


def assert_consistent(data: Redis | Partitions, *coupon_ids: str) -> None:
    """Check, from the marks and the log and not from counters, that all counters agree."""
    partitions = of_each(data)
    client_and_keys = {
        each: partitions[crc32(each.encode()) % len(partitions)] for each in coupon_ids
    }
    marks = {
        mark for client in {id(client): client for client, _ in partitions}.values()
        for mark in client.scan_iter("*coupon:*:user:*", count=1000)
    }
    since = {
        each: client.hget(keys.coupon(each), "since") or "0-0"
        for each, (client, keys) in client_and_keys.items()
    }
    holders = set[tuple[str, str]]()
    for _, entry in decided(data):
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
    for coupon_id, (client, keys) in client_and_keys.items():
        users = {user for coupon, user in holders if coupon == coupon_id}
        _assert_consistent(client, keys, coupon_id, users, marks)


def _parts(stream_id: str) -> tuple[int, int]:
    ms, _, sequence = stream_id.partition("-")
    return int(ms), int(sequence or 0)


def _assert_consistent(
    client: Redis, keys: Keys, coupon_id: str, issued: set[str], marks: set[str]
) -> None:
    start = keys.user(coupon_id, "")
    assert {start + user for user in issued} == {mark for mark in marks if mark.startswith(start)}
    coupon = client.hgetall(keys.coupon(coupon_id))
    stock = int(client.get(keys.stock(coupon_id)))
    assert stock >= 0
    assert int(coupon["quantity"]) == stock + len(issued)
    pending = client.hlen(keys.pending(coupon_id))
    assert int(client.get(keys.requested(coupon_id))) == len(issued) + pending
