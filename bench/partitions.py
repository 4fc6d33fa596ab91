"""What partitions cost on one server, and what it costs to wait for a replica."""

import statistics
from pathlib import Path

from bench.peers import COUPON, WORKER, Peer, gunicorn
from bench.report import Goal, Section, ratio, spread, table
from bench.requests import in_turn
from bench.scale import Scale
from coupon_service.cli.up import HOST
from coupon_service.config import Config
from coupon_service.installation import Partitions
from coupon_service.scripts import Registration, Request
from tests.processes import Server, wait_until
from tests.state import assert_consistent, backlog

COUNT = 16
CONNECTIONS = 64
#: Web CPU of a request with partitions, to that without.
ROUTING = 1.1


class Partitioned(Peer):
    """Sixteen partitions on one server."""

    def start(self) -> None:
        super().start()
        self.data = Partitions(Config(redis_url=self.server.url, partitions=COUNT), None, 60)

    def register(self, quantity: int) -> None:
        self.client.flushall()
        self.data.register(Registration(COUPON, quantity))

    def admit(self, user_id: str) -> None:
        request = Request(COUPON, user_id, "bench")
        assert self.data.of(COUPON).coupon_scripts.admit([request]) == [["accepted"]]

    def backlog(self) -> int:
        return backlog(self.data)

    def issued(self) -> int:
        return int(self.data.of(COUPON).coupons.snapshot(COUPON)["issued"])

    def assert_exact(self) -> None:
        assert_consistent(self.data, COUPON)


class Replicated(Peer):
    """A server with one replica."""

    def start(self) -> None:
        super().start()
        folder = self.server.folder / "replica"
        folder.mkdir()
        self.replica = Server(folder).start()
        replica = self.replica.client()
        replica.execute_command("REPLICAOF", HOST, self.server.port)
        wait_until(
            lambda: replica.info("replication").get("master_link_status") == "up", "the replica"
        )

    def stop(self) -> None:
        super().stop()
        self.replica.stop()


def run(folder: Path, scale: Scale) -> Section:
    """Measure the requests that are accepted, of each pair in turn."""
    def peer(kind: type[Peer], name: str, **settings: str) -> Peer:
        return kind(name, gunicorn("wsgi:app"), WORKER, folder / name.replace(" ", "-"), **settings)

    pairs = [
        [peer(Peer, "1 partition"), peer(Partitioned, "16 partitions", COUPON_PARTITIONS="16")],
        [peer(Replicated, "1 replica, not waited for", COUPON_REPLICAS="0"),
         peer(Replicated, "1 replica, waited for", COUPON_REPLICAS="1")],
    ]
    rows, ratios = [], []
    for pair in pairs:
        try:
            for each in pair:
                each.start()
            loads = in_turn({each.name: each for each in pair}, "accepted",
                            scale._replace(connections=CONNECTIONS), 0)
        finally:
            for each in pair:
                each.stop()
        cpu, answers = (
            [[value(load) for load in its] for its in loads.values()]
            for value in (lambda load: load.cpu["web"], lambda load: load.per_second)
        )
        ratios.append((ratio(*reversed(cpu)), ratio(*reversed(answers))))
        rows += [
            (name, spread(answered), spread(spent),
             f"{statistics.median(load.p50 for load in loads[name]) / 1000:.1f}")
            for name, answered, spent in zip(loads, answers, cpu, strict=True)
        ]
    text = (
        f"{CONNECTIONS} connections, one coupon, accepted requests. Waiting for the replica gives "
        f"{ratios[1][1]:.2f} times the answers/s.\n\n"
        + table(["service", "answers/s", "web µs", "p50 ms"], rows)
    )
    return Section("Partitions and replicas", text, [
        Goal("web CPU of a request with 16 partitions, to 1", ratios[0][0], ROUTING, at_most=True),
    ])
