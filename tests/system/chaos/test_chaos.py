"""The promise, while everything around it breaks. Seeded; CHAOS_SEED and CHAOS_SECONDS choose."""

import json
import os
import random
import signal
import time
from collections import Counter
from pathlib import Path

import pytest
from redis.exceptions import RedisError

from coupon_service.installation import Partitions
from tests.processes import gunicorn, wait_until, worker
from tests.state import assert_consistent, backlog, config_with, decided, everything, held
from tests.system.chaos.clients import Clients
from tests.system.chaos.lives import Lives
from tests.system.chaos.proxy import Proxy
from tests.system.deployments import Cluster, Sentinels

SEED = int(os.environ.get("CHAOS_SEED") or random.randrange(1_000_000))
SECONDS = float(os.environ.get("CHAOS_SECONDS") or 8)
QUANTITY, CONNECTIONS, WORKERS = 150, 8, 3
TOKEN = "chaos"
CLAIM_IDLE_MS = 400


class Chaos:
    """The processes of the service, and what is done to them and to Redis."""

    def __init__(self, url, folder, launch, settings, faults):
        """`faults` maps what can be done to Redis to how often it is done."""
        self._redis_url, self._folder, self._launch, self._settings = url, folder, launch, settings
        self.random = random.Random(SEED)
        self.counts = Counter()
        self.api, self.url = gunicorn(
            url, folder / "web.log", COUPON_ADMIN_TOKEN=TOKEN, COUPON_RETENTION="1", **settings
        )
        launch(self.api)
        self.workers = [self._worker() for _ in range(WORKERS)]
        self.stopped = {}
        self.own_faults = {self.kill_worker: 4, self.kill_api_worker: 2, self.stop_worker: 3}
        self.faults = faults

    def _worker(self):
        return self._launch(worker(
            self._redis_url, self._folder / "worker.log", COUPON_WORKER_BATCH="20",
            COUPON_CLAIM_IDLE_MS=str(CLAIM_IDLE_MS), **self._settings,
        ))

    def strike(self, redis_may_fail=True):
        """Bring about one fault, drawn at random."""
        faults = {**self.own_faults, **(self.faults if redis_may_fail else {})}
        fault, = self.random.choices(list(faults), faults.values())
        self.counts[fault.__name__] += 1
        fault() if fault in self.own_faults else fault(self.random)

    def kill_worker(self):
        number = self.random.randrange(WORKERS)
        self.workers[number].stop()
        self.workers[number] = self._worker()

    def kill_api_worker(self):
        children = Path(f"/proc/{self.api.pid}/task/{self.api.pid}/children").read_text().split()
        if children:
            os.kill(int(self.random.choice(children)), signal.SIGKILL)

    def stop_worker(self):
        """Past the claim time, so that another worker takes its entries over."""
        process = self.random.choice(self.workers)
        process.signal(signal.SIGSTOP)
        self.stopped[process] = time.monotonic() + 3 * CLAIM_IDLE_MS / 1000

    def wake(self, everybody=False):
        for process, until in list(self.stopped.items()):
            if everybody or time.monotonic() > until:
                process.signal(signal.SIGCONT)
                del self.stopped[process]

    def run(self, may_fail=lambda: True):
        """Strike for SECONDS, Redis only while `may_fail`."""
        end = time.monotonic() + SECONDS
        while time.monotonic() < end:
            time.sleep(self.random.uniform(0.1, 0.6))
            self.wake()
            self.strike(may_fail())
        self.wake(everybody=True)


def quiet(data):
    """Whether everything that was asked is decided, and everything due is removed."""
    try:
        return not backlog(data) and not any(
            each.client.zcard(each.keys.removals)
            or any(each.client.exists(each.keys.pending(coupon))
                   for coupon in each.client.zrange(each.keys.coupons, 0, -1))
            for each in data
        )
    except RedisError:
        return False


def check(data, clients, nothing_lost=True):
    """All invariants of the promise, after everything has come to rest.

    Returns how many accepted requests were lost, which must be none if `nothing_lost`.
    """
    log = Counter(
        (entry["couponId"], entry["userId"], entry["decision"])
        for _, entry in decided(data) if entry["couponId"] in clients.answers
    )
    assert set(log.values()) == {1}, "a decision is logged twice"
    assert {decision for _, _, decision in log} == {"issued"}
    assert (backlog(data), held(data)) == (0, 0)
    assert not any(each.client.xlen(each.keys.dead) for each in data)
    registered = {
        coupon for each in data for coupon in each.client.zrange(each.keys.coupons, 0, -1)
    }
    assert_consistent(data, *registered & clients.answers.keys())
    lost = 0
    for coupon, answers in clients.answers.items():
        accepted = {answer.user for _, answer in answers if answer.code == "accepted"}
        issued = {user for name, user, _ in log if name == coupon}
        assert len(issued) <= QUANTITY
        lost += len(accepted - issued)
        if nothing_lost:
            assert coupon in registered
            check_exactly(data.of(coupon), coupon, clients, accepted, issued)
    assert not (nothing_lost and clients.disagreements), clients.disagreements
    return lost


def check_exactly(installation, coupon, clients, accepted, issued):
    answers, client, keys = clients.answers[coupon], installation.client, installation.keys
    assert {answer.status for _, answer in answers} <= {200, 400, 409}
    assert accepted <= issued <= accepted | clients.abandoned[coupon], coupon
    if any(answer.code == "sold_out" for _, answer in answers):
        assert len(issued) == QUANTITY, coupon
    assert client.hlen(keys.pending(coupon)) == 0
    for key, answer in answers:
        if answer.code == "accepted":
            mark = client.get(keys.user(coupon, answer.user))
            assert mark.split(" ")[0] == key, "issued for another request than was accepted"


def tell(capsys, name, **report):
    with capsys.disabled():
        print(f"\n{name}: {json.dumps({'seed': SEED, 'seconds': SECONDS, **report})}")


def test_promise_holds_while_everything_breaks(pair, launch, tmp_path, capsys):
    def kill_server(_):
        pair.kill_primary()

    def demote_server(_):
        """It lives on as a replica, with the connections of the others."""
        pair.demote()
        proxy.server_port = pair.primary.port

    def flush_scripts(_):
        with pair.client() as client:
            client.script_flush()

    def kill_connections(_):
        with pair.client() as client:
            client.client_kill_filter(_type="normal", skipme=True)

    def data():
        return Partitions(config_with(redis_url=pair.primary.url), None, timeout=60, retries=0)

    odds = {"lose": 0.01, "reset": 0.005, "stall": 0.003}
    with Proxy(pair.primary.port, SEED, **odds) as proxy:
        chaos = Chaos(
            proxy.url, tmp_path, launch, {},
            {kill_server: 1, demote_server: 1, flush_scripts: 2, kill_connections: 2},
        )
        clients = Clients(chaos.url, SEED, CONNECTIONS, QUANTITY, TOKEN)
        lives = Lives(chaos.url, data, SEED, TOKEN)
        clients.start()
        lives.start()
        chaos.run()
        proxy.calm()
        clients.finish()
        lives.finish()
        try:
            wait_until(lambda: quiet(data()), "everything to be decided")
            check(data(), clients)
            lives.check()
        except BaseException:
            dump = tmp_path / "keys.json"
            dump.write_text(json.dumps(everything(pair.client()), default=sorted, indent=1))
            print(f"CHAOS_SEED={SEED} fails; the data is in {dump}")
            raise
        finally:
            tell(capsys, "chaos", coupons=len(clients.answers), **clients.counts, **lives.counts,
                 **chaos.counts, **proxy.counts)
    assert clients.counts["200"] > 0 and chaos.counts and proxy.counts
    assert lives.counts["deletions"] + lives.counts["expiries"] > 1


@pytest.mark.long
@pytest.mark.parametrize("deployment", [Sentinels, Cluster])
@pytest.mark.parametrize("replicas", [1, 0])
def test_failovers_issue_nothing_twice_and_with_wait_lose_nothing(
    deployment, replicas, launch, tmp_path, capsys
):
    """With COUPON_REPLICAS=1 kills and stops; without it also failovers on command and moved slots,
    and what is lost is counted."""
    redis = deployment(tmp_path, replicas)
    try:
        chaos = Chaos(redis.url, tmp_path, launch, redis.settings, redis.faults(not replicas))
        clients = Clients(chaos.url, SEED, CONNECTIONS, QUANTITY, TOKEN)
        clients.start()
        chaos.run(redis.tick)
        redis.calm()
        clients.finish()
        data = redis.data()
        wait_until(lambda: quiet(data), "everything to be decided")
        lost = check(data, clients, nothing_lost=bool(replicas))
        tell(capsys, f"{deployment.__name__} replicas={replicas}", lost=lost,
             coupons=len(clients.answers), **clients.counts, **chaos.counts)
    finally:
        redis.stop()
    assert clients.counts["200"] > 0
    assert any(fault.__name__ in chaos.counts for fault in chaos.faults)
