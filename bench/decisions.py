"""How fast workers decide a backlog, beside the literal worker and what Redis itself can do."""

import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from redis import Redis

from bench.literal_worker import GROUP
from bench.peers import COUPON, PLENTY, Peer, running
from bench.report import Section, ratios, spread, table
from bench.scale import Scale
from bench.services import LITERAL, OURS, services
from coupon_service.scripts import source
from tests.processes import Process, wait_until
from tests.state import KEYS

#: Calls in one round trip of redis-benchmark: the batch of a worker.
PIPELINE = 100


def run(folder: Path, scale: Scale) -> Section:
    """Measure one worker, two workers, the literal one and redis-benchmark in turn."""
    peers = services(folder, OURS, LITERAL)
    ours = peers[OURS]
    measured = {
        "one worker": lambda: _decide(ours, 1, scale.decisions),
        "two workers": lambda: _decide(ours, 2, scale.decisions),
        "literal": lambda: _decide(peers[LITERAL], 1, scale.literal_decisions),
        "redis-benchmark": lambda: _redis_benchmark(ours, scale.decisions),
    }
    rates: dict[str, list[float]] = {name: [] for name in measured}
    with running(*peers.values()):
        for _ in range(scale.rounds):
            for name, measure in measured.items():
                rates[name].append(measure())
    text = (
        f"A backlog of {scale.decisions:,} admitted requests ({scale.literal_decisions:,} for the "
        "literal worker). redis-benchmark calls issue.lua for one entry at a time, "
        f"{PIPELINE} calls in one round trip, and does nothing else.\n\n"
    ) + table(["", "decisions/s"], [(name, spread(its)) for name, its in rates.items()])
    one = rates["one worker"]
    return Section("Decisions", text, {
        "decisions/s of one worker to literal": ratios(one, rates["literal"]),
        "decisions/s of one worker to redis-benchmark": ratios(one, rates["redis-benchmark"]),
        "decisions/s of two workers to one": ratios(rates["two workers"], one),
    })


def _decide(peer: Peer, workers: int, count: int) -> float:
    """Let fresh workers decide a backlog, and give the decisions a second from the first on."""
    with _without_worker(peer):
        fill(peer, count)
        started_workers = [
            Process(peer.worker.command, peer.worker.log, **peer.worker.variables).start()
            for _ in range(workers)
        ]
        try:
            wait_until(peer.issued, "the first decision")
            started, before = time.perf_counter(), peer.issued()
            while peer.issued() < count:
                time.sleep(0.002)
            rate = (count - before) / (time.perf_counter() - started)
            peer.settle()
        finally:
            for worker in started_workers:
                worker.stop()
        peer.assert_exact()
    return rate


def fill(peer: Peer, count: int) -> None:
    """Begin anew with one coupon, and admit requests; nothing decides them here."""
    peer.register(PLENTY)
    for start in range(0, count, 500):
        peer.admit(range(start, min(start + 500, count)))


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
