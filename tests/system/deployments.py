"""Redis as it is deployed with a spare: Sentinels, and a cluster; what can be done to them.

Every server has an AOF that is written at once. Faults come one at a time: each waits until every
replica has everything, because with one replica nobody promises more.
"""

import random
import signal
import time
from collections.abc import Callable
from pathlib import Path

from redis.crc import key_slot
from redis.exceptions import RedisError

from coupon_service.config import Config
from coupon_service.installation import Partitions
from tests.processes import HOST, PATIENCE, Server, wait_until

#: Milliseconds after which a silent server is held to be down; two cores carry nine processes.
DOWN_AFTER_MS = 3000


class Deployment:
    """Servers of which some are primaries and the others their replicas."""

    url: str
    partitions = 1

    def __init__(self, folder: Path, replicas: int = 0) -> None:
        """`replicas`: what COUPON_REPLICAS is, and what min-replicas-to-write is."""
        self._folder, self._replicas = folder, replicas
        self._options = (
            "--min-replicas-to-write", str(replicas), "--min-replicas-max-lag", "2",
            "--repl-diskless-sync-delay", "0", "--repl-timeout", "10",
        )
        self.servers: list[Server] = []
        self._repairs: list[tuple[float, Callable[[], object]]] = []

    @property
    def settings(self) -> dict[str, str]:
        """The environment of the processes that use it."""
        return {
            "COUPON_PARTITIONS": str(self.partitions), "COUPON_REPLICAS": str(self._replicas),
        }

    def data(self) -> Partitions:
        """The data, through the connections that the service uses."""
        return Partitions(
            Config(redis_url=self.url, partitions=self.partitions), None, timeout=2, retries=3
        )

    def faults(self, manual: bool) -> dict[Callable[[random.Random], None], int]:
        """What can be done, and how often in relation to each other.

        Args:
            manual: also what operators do: failovers on command and, in a cluster, moved slots.
        """
        faults = {self.kill_primary: 2, self.stop_primary: 2, self.kill_replica: 1}
        return {**faults, self.fail_over: 2} if manual else faults

    def kill_primary(self, chance: random.Random) -> None:
        """Kill one; it starts again, as a primary if it was soon enough, else as a replica."""
        self._kill(chance.choice(self.primaries()), chance)

    def kill_replica(self, chance: random.Random) -> None:
        primaries = self.primaries()
        self._kill(chance.choice([each for each in self.servers if each not in primaries]), chance)

    def stop_primary(self, chance: random.Random) -> None:
        """Let one hang, mostly for longer than it takes to be replaced."""
        server = chance.choice(self.primaries())
        server.signal(signal.SIGSTOP)
        self._later(chance.uniform(0.5, 2.5), lambda: server.signal(signal.SIGCONT))

    def fail_over(self, chance: random.Random) -> None:
        """Have a replica take the place of its primary."""
        raise NotImplementedError

    def primaries(self) -> list[Server]:
        """The servers that are primaries now."""
        raise NotImplementedError

    def _kill(self, server: Server, chance: random.Random) -> None:
        server.stop()
        self._later(chance.uniform(0, 2.5), server.start)

    def _later(self, downs: float, repair: Callable[[], object]) -> None:
        self._repairs.append((time.monotonic() + downs * DOWN_AFTER_MS / 1000, repair))

    def tick(self) -> bool:
        """Make the repairs that are due; return whether another fault may come."""
        for due in [each for each in self._repairs if each[0] <= time.monotonic()]:
            self._repairs.remove(due)
            due[1]()
        return not self._repairs and self.is_whole()

    def is_whole(self) -> bool:
        """Whether every primary has its replica, and that has everything."""
        try:
            infos = [server.client(timeout=1).info() for server in self.servers]
        except RedisError:
            return False
        replicas = [info for info in infos if info["role"] == "slave"]
        return len(replicas) * 2 == len(infos) and all(
            info["master_link_status"] == "up" and not info["loading"]
            and not info["aof_rewrite_in_progress"] and not info["aof_rewrite_scheduled"]
            for info in replicas
        )

    def calm(self) -> None:
        """Make all repairs, and wait until everything is whole."""
        wait_until(self.tick, "the servers to be whole", 2 * PATIENCE)

    def stop(self) -> None:
        """End all servers."""
        for server in self.servers:
            server.stop()

    def _add_server(self, name: str, *options: str) -> Server:
        folder = self._folder / name
        folder.mkdir()
        server = Server(folder, *self._options, *options)
        while server.port > 65_535 - 10_000:  # a node of a cluster listens there too
            server = Server(folder, *self._options, *options)
        self.servers.append(server)
        return server


class Sentinels(Deployment):
    """A primary and its replica, watched by three Sentinels."""

    def __init__(self, folder: Path, replicas: int = 0) -> None:
        super().__init__(folder, replicas)
        first, second = (self._add_server(name).start() for name in ("first", "second"))
        second.client().execute_command("REPLICAOF", HOST, first.port)
        wait_until(super().is_whole, "the replica to have everything")
        self.sentinels = [self._sentinel(f"sentinel{row}", first.port) for row in range(3)]
        addresses = ",".join(f"{HOST}:{sentinel.port}" for sentinel in self.sentinels)
        self.url = f"redis+sentinel://{addresses}/coupons/0"
        for sentinel in self.sentinels:
            sentinel.start()
        wait_until(self._know_each_other, "the Sentinels to know each other")

    def _sentinel(self, name: str, port: int) -> Server:
        folder = self._folder / name
        folder.mkdir()
        (folder / "sentinel.conf").write_text(
            f"sentinel monitor coupons {HOST} {port} 2\n"
            f"sentinel down-after-milliseconds coupons {DOWN_AFTER_MS}\n"
            "sentinel failover-timeout coupons 10000\n"
        )
        sentinel = Server(folder)
        sentinel.command = [
            sentinel.command[0], "sentinel.conf", "--sentinel", "--port", str(sentinel.port),
            "--bind", HOST,
        ]
        return sentinel

    def _know_each_other(self) -> bool:
        states = [
            sentinel.client().execute_command("SENTINEL MASTER", "coupons")
            for sentinel in self.sentinels
        ]
        return all(
            (int(state["num-other-sentinels"]), int(state["num-slaves"])) == (2, 1)
            for state in states
        )

    def faults(self, manual: bool) -> dict[Callable[[random.Random], None], int]:
        return {**super().faults(manual), self.kill_sentinel: 1}

    def primaries(self) -> list[Server]:
        return [each for each in self.servers if each.client().role()[0] == "master"]

    def is_whole(self) -> bool:
        return super().is_whole() and self._elected() is not None

    def _elected(self) -> int | None:
        """The port of the primary, if the Sentinels agree and none of them is in a failover."""
        try:
            states = [
                sentinel.client(timeout=1).execute_command("SENTINEL MASTER", "coupons")
                for sentinel in self.sentinels
            ]
            primaries = {each.port for each in self.primaries()}
        except RedisError:  # one that changes its role closes its connections
            return None
        ports = {int(state["port"]) for state in states}
        busy = any({"s_down", "o_down", "failover_in_progress", "reconf_inprog"} &
                   set(str(state["flags"]).split(",")) for state in states)
        [primary, *_] = ports
        return primary if len(ports) == 1 and not busy and primaries == ports else None

    def kill_sentinel(self, chance: random.Random) -> None:
        self._kill(chance.choice(self.sentinels), chance)

    def fail_over(self, chance: random.Random) -> None:
        sentinel = chance.choice(self.sentinels)
        try:
            sentinel.client().execute_command("SENTINEL FAILOVER", "coupons")
        except RedisError:
            pass  # not within a minute of another one

    def stop(self) -> None:
        for sentinel in self.sentinels:
            sentinel.stop()
        super().stop()


class Cluster(Deployment):
    """Three primaries with a replica each; 16 partitions."""

    partitions = 16

    def __init__(self, folder: Path, replicas: int = 0) -> None:
        super().__init__(folder, replicas)
        for row in range(6):
            self._add_server(
                f"node{row}", "--cluster-enabled", "yes", "--cluster-node-timeout",
                str(DOWN_AFTER_MS), "--cluster-require-full-coverage", "no",
                "--cluster-allow-replica-migration", "no",
            ).start()
        addresses = ",".join(f"{HOST}:{server.port}" for server in self.servers[:3])
        self.url = f"redis+cluster://{addresses}"
        self._form()

    def _form(self) -> None:
        clients = [server.client() for server in self.servers]
        for row, client in enumerate(clients):
            client.execute_command("CLUSTER SET-CONFIG-EPOCH", row + 1)
            if row < 3:
                slots = range(row * 16384 // 3, (row + 1) * 16384 // 3)
                client.execute_command("CLUSTER ADDSLOTS", *slots)
            if row:
                client.execute_command("CLUSTER MEET", HOST, self.servers[0].port)
        wait_until(
            lambda: all(len(client.cluster("NODES")) == 6 for client in clients), "all to meet"
        )
        for row in range(3):
            node_id = clients[row].execute_command("CLUSTER MYID")
            wait_until(lambda row=row, node_id=node_id: node_id in str(
                clients[row + 3].cluster("NODES")), "the replica to know its primary")
            clients[row + 3].execute_command("CLUSTER REPLICATE", node_id)
        wait_until(self.is_whole, "the cluster to be whole")

    def primaries(self) -> list[Server]:
        owners = {port for _, _, port in self._owners(self.servers[0])}
        return [each for each in self.servers if each.port in owners]

    def _owners(self, server: Server) -> list[tuple[int, int, int]]:
        """First and last slot, and the port of their primary, as a server knows them."""
        slots = server.client(timeout=1).execute_command("CLUSTER SLOTS")
        return [(first, last, primary[1]) for first, last, primary, *_ in slots]

    def is_whole(self) -> bool:
        """Also whether all nodes know the same primaries, and that all are up."""
        if not super().is_whole():
            return False
        try:
            known = {str(sorted(self._owners(server))) for server in self.servers}
            states = {server.client().cluster("INFO")["cluster_state"] for server in self.servers}
            flags = {
                flag for server in self.servers
                for node in server.client().cluster("NODES").values()
                for flag in node["flags"].split(",")
            }
        except RedisError:
            return False
        return len(known) == 1 and states == {"ok"} and not flags & {"fail", "fail?", "handshake"}

    def faults(self, manual: bool) -> dict[Callable[[random.Random], None], int]:
        faults = super().faults(manual)
        return {**faults, self.move_slot: 2} if manual else faults

    def fail_over(self, chance: random.Random) -> None:
        primaries = self.primaries()
        replica = chance.choice([each for each in self.servers if each not in primaries])
        replica.client().execute_command("CLUSTER FAILOVER")

    def move_slot(self, chance: random.Random) -> None:
        """Move the slot of a partition to another primary, key by key, under load."""
        slot = key_slot(f"{{{chance.randrange(self.partitions)}}}:".encode())
        primaries = self.primaries()
        [port] = [port for first, last, port in self._owners(self.servers[0])
                  if first <= slot <= last]
        [source] = [each for each in primaries if each.port == port]
        target = chance.choice([each for each in primaries if each is not source])
        ids = [each.client().execute_command("CLUSTER MYID") for each in (source, target)]
        target.client().execute_command("CLUSTER SETSLOT", slot, "IMPORTING", ids[0])
        source.client().execute_command("CLUSTER SETSLOT", slot, "MIGRATING", ids[1])
        while keys := source.client().execute_command("CLUSTER GETKEYSINSLOT", slot, 20):
            source.client().execute_command(
                "MIGRATE", HOST, target.port, "", 0, 5000, "KEYS", *keys
            )
            time.sleep(0.005)
        for server in (target, source, *primaries):
            server.client().execute_command("CLUSTER SETSLOT", slot, "NODE", ids[1])
