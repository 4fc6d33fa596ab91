"""How soon the API serves again after a failover, and what other partitions notice of it."""

import os
import statistics
import threading
import time
from collections import Counter

import pytest
from redis.exceptions import RedisError

from tests.load import Client
from tests.processes import gunicorn, wait_until
from tests.system.deployments import Cluster, Sentinels

#: Failovers of each deployment.
ROUNDS = int(os.environ.get("FAILOVERS") or 3)
#: Seconds after the election within which the API has to serve, in the median.
WITHIN = 5.0
IDS = [f"C{number:02}" for number in range(20)]


class Polling:
    """Asks for one coupon after the other, each with a user of its own, and keeps the answers."""

    def __init__(self, url: str, coupon_id: str) -> None:
        self._url, self._coupon_id = url, coupon_id
        self.answers: list[tuple[float, int]] = []
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def _run(self) -> None:
        client = Client(self._url)
        while not self._done.wait(0.02):
            user = f"u{len(self.answers)}-{time.monotonic()}"
            self.answers.append((time.monotonic(), client.ask(self._coupon_id, user).status))

    def __enter__(self) -> "Polling":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._thread.join()

    def accepted_after(self, instant: float) -> bool:
        return any(at > instant and status == 200 for at, status in self.answers)


@pytest.mark.long
@pytest.mark.parametrize("deployment", [Sentinels, Cluster])
def test_api_serves_soon_after_the_election_and_other_partitions_go_on(
    deployment, launch, tmp_path, capsys
):
    redis = deployment(tmp_path)
    try:
        process, url = gunicorn(redis.url, tmp_path / "web.log", **redis.settings)
        launch(process)
        for coupon_id in IDS:
            Client(url).register(coupon_id, 10**6)
        seconds, others = [], Counter()
        for _ in range(ROUNDS):
            after, statuses = one_failover(redis, url)
            seconds.append(after)
            others += statuses
    finally:
        redis.stop()
    with capsys.disabled():
        print(f"\n{deployment.__name__}: served {statistics.median(seconds):.2f} s after the "
              f"election ({min(seconds):.2f}–{max(seconds):.2f}, {ROUNDS} failovers); answers of "
              f"other partitions meanwhile {dict(others)}")
    assert statistics.median(seconds) < WITHIN
    if deployment is Cluster:
        assert others[200] > 10 * others[503]


def one_failover(redis, url):
    """Kill a primary; return the seconds from the election to the first accepted request, and the
    statuses that requests for a coupon of another primary got meanwhile."""
    data, victim = redis.data(), redis.primaries()[0]

    def on_victim(coupon_id):
        client = data.of(coupon_id).client
        client.ping()
        [connection] = client.connection_pool._connections
        return connection.port == victim.port

    coupon_id = next(filter(on_victim, IDS))
    other = next((each for each in IDS if not on_victim(each)), None)
    with Polling(url, coupon_id) as polling, Polling(url, other or coupon_id) as elsewhere:
        wait_until(lambda: polling.accepted_after(0) and elsewhere.accepted_after(0), "the start")
        killed = time.monotonic()
        victim.stop()
        wait_until(lambda: others_are_primaries(redis, victim), "the election")
        elected = time.monotonic()
        wait_until(lambda: polling.accepted_after(elected), "the first accepted request")
        end = next(at for at, status in polling.answers if at > elected and status == 200)
    victim.start()
    redis.calm()
    during = Counter(
        status for at, status in elsewhere.answers if other and killed <= at <= end
    )
    return end - elected, during


def others_are_primaries(redis, victim):
    """Whether as many of the other servers are primaries as were before."""
    try:
        roles = [each.client().role()[0] for each in redis.servers if each is not victim]
    except RedisError:  # one that changes its role closes its connections
        return False
    return roles.count("master") == len(redis.servers) // 2
