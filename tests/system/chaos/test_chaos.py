"""The promise, while everything around it breaks. Seeded; CHAOS_SEED and CHAOS_SECONDS choose."""

import json
import os
import random
import signal
import time
from collections import Counter
from pathlib import Path

import pytest

from coupon_service.keys import GROUP
from tests.system.chaos.clients import Clients
from tests.system.chaos.lives import Lives
from tests.system.chaos.proxy import Proxy
from tests.processes import gunicorn, wait_until, worker
from tests.state import KEYS, assert_consistent, everything
from tests.system.pair import Pair

SEED = int(os.environ.get("CHAOS_SEED") or random.randrange(1_000_000))
SECONDS = float(os.environ.get("CHAOS_SECONDS") or 12)
QUANTITY, CONNECTIONS, WORKERS = 150, 8, 3
TOKEN = "chaos"
CLAIM_IDLE_MS = 400


class Chaos:
    """The processes, and what is done to them."""

    def __init__(self, pair, proxy, folder, launch):
        self.pair, self.proxy, self.folder, self.launch = pair, proxy, folder, launch
        self.random = random.Random(SEED)
        self.counts = Counter()
        self.api, self.url = gunicorn(
            proxy.url, folder / "web.log", COUPON_ADMIN_TOKEN=TOKEN, COUPON_RETENTION="1"
        )
        launch(self.api)
        self.workers = [self._worker() for _ in range(WORKERS)]
        self.stopped = {}
        self.faults = {
            self.kill_worker: 4, self.kill_api_worker: 2, self.kill_server: 1,
            self.stop_worker: 3, self.flush_scripts: 2, self.kill_connections: 2,
            self.demote_server: 1,
        }

    def _worker(self):
        return self.launch(worker(
            self.proxy.url, self.folder / "worker.log", COUPON_WORKER_BATCH="20",
            COUPON_CLAIM_IDLE_MS=str(CLAIM_IDLE_MS),
        ))

    def strike(self):
        """Bring about one fault, drawn at random."""
        fault, = self.random.choices(list(self.faults), self.faults.values())
        self.counts[fault.__name__] += 1
        fault()

    def kill_worker(self):
        number = self.random.randrange(WORKERS)
        self.workers[number].stop()
        self.workers[number] = self._worker()

    def kill_api_worker(self):
        children = Path(f"/proc/{self.api.pid}/task/{self.api.pid}/children").read_text().split()
        if children:
            os.kill(int(self.random.choice(children)), signal.SIGKILL)

    def kill_server(self):
        self.pair.kill_primary()

    def demote_server(self):
        """It lives on as a replica, with the connections of the others."""
        self.pair.demote()
        self.proxy.server_port = self.pair.primary.port

    def stop_worker(self):
        """Past the claim time, so that another worker takes its entries over."""
        process = self.random.choice(self.workers)
        process.signal(signal.SIGSTOP)
        self.stopped[process] = time.monotonic() + 3 * CLAIM_IDLE_MS / 1000

    def flush_scripts(self):
        with self.pair.client() as client:
            client.script_flush()

    def kill_connections(self):
        with self.pair.client() as client:
            client.client_kill_filter(_type="normal", skipme=True)

    def wake(self, everybody=False):
        for process, until in list(self.stopped.items()):
            if everybody or time.monotonic() > until:
                process.signal(signal.SIGCONT)
                del self.stopped[process]

    def calm(self):
        self.proxy.calm()
        self.wake(everybody=True)


def quiet(client):
    if client.xlen(KEYS.requests) or client.zcard(KEYS.removals):
        return False
    coupons = client.zrange(KEYS.coupons, 0, -1)
    return not any(client.exists(KEYS.pending(coupon)) for coupon in coupons)


def check(client, clients):
    """All invariants of the promise, after everything has come to rest."""
    assert clients.disagreements == []
    log = Counter(
        (entry["couponId"], entry["userId"], entry["decision"])
        for _, entry in client.xrange(KEYS.log) if entry["couponId"] in clients.answers
    )
    assert set(log.values()) == {1}, "a decision is logged twice"
    assert {decision for _, _, decision in log} == {"issued"}
    assert client.xlen(KEYS.requests) == 0
    assert client.xlen(KEYS.dead) == 0
    assert client.xpending(KEYS.requests, GROUP)["pending"] == 0
    assert_consistent(client, *clients.answers)
    for coupon, answers in clients.answers.items():
        assert {answer.status for _, answer in answers} <= {200, 400, 409}
        accepted = {answer.user for _, answer in answers if answer.code == "accepted"}
        issued = {user for name, user, _ in log if name == coupon}
        assert accepted <= issued <= accepted | clients.abandoned[coupon], coupon
        assert len(issued) <= QUANTITY
        if any(answer.code == "sold_out" for _, answer in answers):
            assert len(issued) == QUANTITY, coupon
        assert client.hlen(KEYS.pending(coupon)) == 0
        for key, answer in answers:
            if answer.code == "accepted":
                mark = client.get(KEYS.user(coupon, answer.user))
                assert mark.split(" ")[0] == key, "issued for another request than was accepted"


@pytest.fixture
def pair(tmp_path):
    pair = Pair(tmp_path)
    yield pair
    pair.stop()


def test_promise_holds_while_everything_breaks(pair, launch, tmp_path, capsys):
    odds = {"lose": 0.01, "reset": 0.005, "stall": 0.003}
    with Proxy(pair.primary.port, SEED, **odds) as proxy:
        chaos = Chaos(pair, proxy, tmp_path, launch)
        clients = Clients(chaos.url, SEED, CONNECTIONS, QUANTITY, TOKEN)
        lives = Lives(chaos.url, pair, SEED, TOKEN)
        clients.start()
        lives.start()
        end = time.monotonic() + SECONDS
        while time.monotonic() < end:
            time.sleep(chaos.random.uniform(0.1, 0.6))
            chaos.wake()
            chaos.strike()
        chaos.calm()
        clients.finish()
        lives.finish()
        client = pair.client()
        report = {
            "seed": SEED, "seconds": SECONDS, "coupons": len(clients.answers),
            **clients.counts, **lives.counts, **chaos.counts, **proxy.counts,
        }
        try:
            wait_until(lambda: quiet(client), "everything to be decided")
            check(client, clients)
            lives.check(client)
        except BaseException:
            dump = tmp_path / "keys.json"
            dump.write_text(json.dumps(everything(client), default=sorted, indent=1))
            print(f"CHAOS_SEED={SEED} fails; the data is in {dump}")
            raise
        finally:
            with capsys.disabled():
                print(f"\nchaos: {json.dumps(report)}")
    assert clients.counts["200"] > 0 and chaos.counts and proxy.counts
    assert lives.counts["deletions"] + lives.counts["expiries"] > 1
