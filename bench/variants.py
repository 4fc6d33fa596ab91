"""What the parts of the service cost or give: with and without, in turn."""

from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from bench.peers import COUPON, WORKER, Peer, gunicorn, running
from bench.report import Section, table
from bench.scale import Scale
from bench.turns import compared, head, in_turn, per_second, rows, warm
from coupon_service.cli.local_server import HOST
from coupon_service.config import Config
from coupon_service.installation import Partitions
from coupon_service.scripts import Registration, Request
from tests.processes import Server, wait_until
from tests.state import assert_consistent, backlog

PARTITIONS = 16


class Partitioned(Peer):
    """Some partitions on one server."""

    def start(self) -> None:
        super().start()
        self.data = Partitions(Config(redis_url=self.server.url, partitions=PARTITIONS), None, 60)

    def register(self, quantity: int) -> None:
        self.client.flushall()
        self.data.register(Registration(COUPON, quantity))

    def admit(self, numbers: range) -> None:
        requests = [Request(COUPON, f"user{number}", "bench") for number in numbers]
        replies = self.data.of(COUPON).coupon_scripts.admit(requests)
        assert replies == [["accepted"]] * len(requests)

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


class Comparison(NamedTuple):
    """Variants of the service; the first is compared with each of the others.

    `variants` has by name what differs: class of the peer, application, options of the Redis
    server, environment. `asked` has the outcomes by number of connections.
    """

    title: str
    variants: dict[str, dict[str, Any]]
    asked: dict[int, tuple[str, ...]]


#: The server would wait 5 s for other replicas before it copies its data to the first.
_AT_ONCE = ("--repl-diskless-sync-delay", "0")
COMPARISONS = {
    "fast_path": Comparison(
        "The fast path", {"the fast path": {}, "Flask alone": {"app": "bench.apps:flask_alone()"}},
        {8: ("accepted",), 64: ("accepted", "status poll"), 256: ("accepted",)},
    ),
    "partitions": Comparison("Partitions on one server", {
        "16 partitions": {"kind": Partitioned, "COUPON_PARTITIONS": str(PARTITIONS)},
        "1 partition": {},
    }, {64: ("accepted",)}),
    "replicas": Comparison("Waiting for a replica", {
        name: {"kind": Replicated, "options": _AT_ONCE, "COUPON_REPLICAS": replicas}
        for name, replicas in (("1 replica, waited for", "1"), ("1 replica, not waited for", "0"))
    }, {64: ("accepted",)}),
    "durability": Comparison("What the promise costs", {
        "appendfsync always": {"options": ("--appendfsync", "always")},
        "appendfsync everysec": {"options": ("--appendfsync", "everysec")},
        "no AOF": {"options": ("--appendonly", "no")},
    }, {64: ("accepted",)}),
}


def _run(comparison: Comparison, folder: Path, scale: Scale) -> Section:
    peers = {
        name: _peer(name, folder / str(row), **variant)
        for row, (name, variant) in enumerate(comparison.variants.items())
    }
    first, *_ = peers
    table_rows, figures = [], dict[str, list[float]]()
    with running(*peers.values()):
        warm(peers, scale)
        for connections in sorted(comparison.asked.keys() & set(scale.connections)):
            for outcome in comparison.asked[connections]:
                loads = in_turn(peers, outcome, connections, scale)
                table_rows += rows(f"{outcome}, {connections} connections", loads)
                for what, value in (
                    ("answers/s", per_second), ("web CPU", lambda load: load.cpu["web"])
                ):
                    for name, figure in compared(loads, value).items():
                        where = f"{outcome}, {connections} connections"
                        figures[f"{what} of {first} to {name}, {where}"] = figure
    return Section(comparison.title, table(head(loads), table_rows), figures)


def _peer(
    name: str, folder: Path, kind: type[Peer] = Peer, app: str = "wsgi:app",
    options: tuple[str, ...] = (), **settings: str,
) -> Peer:
    return kind(name, gunicorn(app), WORKER, folder, options, **settings)


#: By name, the functions that measure a comparison; called as the `run` of other parts.
RUNS = {name: partial(_run, comparison) for name, comparison in COMPARISONS.items()}
