"""How fast workers decide a backlog, beside the literal worker and what Redis itself can do."""

import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

from redis import Redis

from bench.literal_worker import GROUP, STREAM
from bench.peers import COUPON, PLENTY, WORKER, Peer
from bench.report import Goal, Section, ratio, spread, table
from bench.requests import LITERAL, OURS
from bench.scale import Scale
from coupon_service.scripts import Request, source
from tests.processes import Process, wait_until
from tests.state import KEYS, scripts_on

#: Calls in one round trip of redis-benchmark: the batch of a worker.
PIPELINE = 100


def run(peers: dict[str, Peer], scale: Scale) -> Section:
    """Measure one worker, two workers, the literal one and redis-benchmark in turn."""
    ours, literal = peers[OURS], peers[LITERAL]
    commands = {"one worker": [WORKER], "two workers": [WORKER] * 2}
    rates: dict[str, list[float]] = {
        name: [] for name in (*commands, "literal", "redis-benchmark")
    }
    for _ in range(scale.rounds):
        for name, workers in commands.items():
            rates[name].append(_decide(ours, workers, scale.decisions))
        rates["literal"].append(
            _decide(literal, [[sys.executable, "-m", "bench.literal_worker"]],
                    scale.literal_decisions)
        )
        rates["redis-benchmark"].append(_redis_benchmark(ours, scale.decisions))
    text = (
        f"A backlog of {scale.decisions:,} admitted requests ({scale.literal_decisions:,} for the "
        "literal worker). redis-benchmark calls issue.lua for one entry at a time, "
        f"{PIPELINE} calls in one round trip, and does nothing else.\n\n"
    ) + table(["", "decisions/s"], [(name, spread(its)) for name, its in rates.items()])
    one, two = rates["one worker"], rates["two workers"]
    return Section("Decisions", text, [
        Goal("decisions/s of one worker, to literal", ratio(one, rates["literal"]), 10),
        Goal("decisions/s of one worker, to redis-benchmark",
             ratio(one, rates["redis-benchmark"]), 0.6),
        Goal("decisions/s of two workers, to one", ratio(two, one), 1.0),
    ])


def _decide(peer: Peer, commands: list[list[str]], count: int) -> float:
    """Let fresh workers decide a backlog, and give the decisions a second from the first on."""
    with _without_worker(peer):
        peer.register(PLENTY)
        for start in range(0, count, 500):
            admit(peer, range(start, min(start + 500, count)))
        workers = [
            Process(command, peer.worker.log, **peer.worker.variables).start()
            for command in commands
        ]
        try:
            wait_until(peer.issued, "the first decision")
            started, before = time.perf_counter(), peer.issued()
            while peer.issued() < count:
                time.sleep(0.002)
            rate = (count - before) / (time.perf_counter() - started)
            peer.settle()
        finally:
            for worker in workers:
                worker.stop()
        peer.assert_exact()
    return rate


def admit(peer: Peer, numbers: range) -> None:
    if peer.promises:
        requests = [
            Request(COUPON, f"user{number}", f"request{number:08}") for number in numbers
        ]
        assert scripts_on(peer.client).admit(requests) == [["accepted"]] * len(requests)
        return
    with peer.client.pipeline(transaction=False) as pipeline:
        for number in numbers:
            pipeline.incr(KEYS.requested(COUPON))
            pipeline.xadd(STREAM, {"couponId": COUPON, "userId": f"user{number}"})
        pipeline.execute()


@contextmanager
def _without_worker(peer: Peer) -> Iterator[None]:
    peer.worker.stop()
    try:
        yield
    finally:
        peer.worker.start()


def _redis_benchmark(peer: Peer, count: int) -> float:
    """Give the calls a second of issue.lua that redis-benchmark makes.

    Each call decides an entry of another producer, because redis-benchmark draws every
    placeholder anew: entry and user are random, from so many that few come twice.
    """
    with _without_worker(peer):
        peer.register(PLENTY)
        client: Redis = peer.client
        several = 5 * count
        for start in range(0, several, 1000):
            with client.pipeline(transaction=False) as pipeline:
                for number in range(start, start + 1000):
                    pipeline.xadd(
                        KEYS.requests, {"couponId": COUPON, "userId": "u"}, id=f"1-{number + 1}"
                    )
                pipeline.execute()
        client.xgroup_create(KEYS.requests, GROUP, id="0")
        keys = [
            KEYS.stock(COUPON), KEYS.requested(COUPON), KEYS.pending(COUPON), KEYS.coupon(COUPON),
            KEYS.requests, KEYS.log, KEYS.issuances(COUPON), KEYS.series(COUPON),
            KEYS.user(COUPON, "__rand_int__"),
        ]
        output = subprocess.run(
            ["redis-benchmark", "-p", str(peer.server.port), "-c", "1", "-P", str(PIPELINE),
             "-n", str(count), "-r", str(several), "--csv", "EVALSHA",
             client.script_load(source("issue")),
             str(len(keys)), *keys, COUPON, GROUP, "u__rand_int__", "r", "1-__rand_int__"],
            capture_output=True, text=True, check=True,
        ).stdout
        assert peer.issued() > 0.7 * count, "too few of the calls had something to issue"
    return float(output.splitlines()[-1].split('","')[1].strip('"'))
