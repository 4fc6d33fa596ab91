"""A primary and its replica, which exchange their roles."""

from pathlib import Path

from redis import Redis

from tests.processes import HOST, PATIENCE, Server, wait_until


class Pair:
    """Two servers; what was acknowledged by the one is never lost by the other."""

    def __init__(self, folder: Path) -> None:
        for name in ("first", "second"):
            (folder / name).mkdir()
        self.primary, self.replica = (
            Server(folder / name, "--repl-diskless-sync-delay", "0").start()
            for name in ("first", "second")
        )
        self.replica.client().execute_command("REPLICAOF", HOST, self.primary.port)
        self._wait_for_replica()

    def client(self, timeout: float = PATIENCE) -> Redis:
        """A client of the primary."""
        return self.primary.client(timeout)

    def kill_primary(self) -> None:
        """Kill the primary, and start it again before its replica could take its place."""
        self.primary.stop()
        self.primary.start()

    def demote(self) -> None:
        """Exchange the roles; the connections to the old primary stay open.

        FAILOVER waits until the replica has everything. It is not given while the replica writes
        its first AOF, without which it would be killed with its data.
        """
        self._wait_for_replica()
        old, new = self.primary, self.replica
        with old.client() as client:
            client.execute_command("FAILOVER")
            wait_until(lambda: client.role()[0] == "slave", "the roles to be exchanged")
        self.primary, self.replica = new, old

    def stop(self) -> None:
        self.primary.stop()
        self.replica.stop()

    def _wait_for_replica(self) -> None:
        with self.replica.client() as client:
            wait_until(lambda: _is_ready(client.info()), "the replica to have everything")


def _is_ready(info: dict) -> bool:
    return info.get("master_link_status") == "up" and not (
        info["aof_rewrite_in_progress"] or info["aof_rewrite_scheduled"]
    )
