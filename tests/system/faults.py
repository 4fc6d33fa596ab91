"""Ways to break a Redis server, each a context that repairs it at the end.

A fault needs nothing but the server's own process: no container, no packet filter.
"""

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from random import randbytes

from redis.exceptions import RedisError

from tests.processes import Server, wait_until


@contextmanager
def refused(server: Server) -> Iterator[None]:
    """The server is killed; nobody listens on its port."""
    server.stop()
    yield
    server.start()


@contextmanager
def hung(server: Server) -> Iterator[None]:
    """The server is stopped: connections open, replies never come."""
    server.signal(signal.SIGSTOP)
    yield
    server.signal(signal.SIGCONT)


@contextmanager
def loading(server: Server) -> Iterator[None]:
    """The server reads its data in slow motion and answers LOADING."""
    with server.client() as client:
        client.config_set("auto-aof-rewrite-percentage", "0")
        # A loading server looks at its connections every 2 MB: give it many of those.
        for part in range(40):
            client.mset({f"ballast:{part}:{key}": randbytes(10_000) for key in range(200)})
        # Only the part of the data that is a snapshot is read in slices.
        client.bgrewriteaof()
        wait_until(
            lambda: not client.info("persistence")["aof_rewrite_in_progress"]
            and not client.info("persistence")["aof_rewrite_scheduled"],
            "the snapshot to be written",
        )
    server.stop()
    options = ("--key-load-delay", "500")
    server.command += options
    server.start(answer="loading")
    yield
    server.stop()
    server.command = server.command[: -len(options)]
    server.start()


@contextmanager
def configured(server: Server, **settings: str) -> Iterator[None]:
    """The server runs with other settings for a while."""
    with server.client() as client:
        before = {name: client.config_get(name)[name] for name in _dashed(settings)}
        for name, value in _dashed(settings).items():
            client.config_set(name, value)
        yield
        for name, value in before.items():
            client.config_set(name, value)


def _dashed(settings: dict[str, str]) -> dict[str, str]:
    return {name.replace("_", "-"): value for name, value in settings.items()}


def out_of_memory(server: Server) -> object:
    """OOM: writes that need memory are refused."""
    return configured(server, maxmemory="1")


def no_replicas(server: Server) -> object:
    """NOREPLICAS: a write needs a replica and there is none."""
    return configured(server, min_replicas_to_write="1")


@contextmanager
def read_only(server: Server) -> Iterator[None]:
    """READONLY: the server was made the replica of one that does not exist."""
    with server.client() as client:
        client.execute_command("REPLICAOF", "127.0.0.1", "1")
        yield
        client.execute_command("REPLICAOF", "NO", "ONE")


@contextmanager
def failed_save(server: Server) -> Iterator[None]:
    """MISCONF: a snapshot could not be written, for a folder stands where it should go."""
    with server.client() as client, configured(server, save="3600 1000000"):
        (server.folder / "dump.rdb").unlink(missing_ok=True)  # of the fault before
        (server.folder / "dump.rdb").mkdir()
        client.bgsave()
        wait_until(
            lambda: client.info("persistence")["rdb_last_bgsave_status"] == "err",
            "the snapshot to fail",
        )
        yield
        (server.folder / "dump.rdb").rmdir()
        client.bgsave()
        wait_until(
            lambda: client.info("persistence")["rdb_last_bgsave_status"] == "ok",
            "the snapshot to succeed",
        )


@contextmanager
def busy(server: Server) -> Iterator[None]:
    """BUSY: somebody's script runs and does not end."""
    with server.client() as client, server.client() as other:
        client.config_set("lua-time-limit", "20")

        def run() -> None:
            try:
                other.eval("while true do end", 0)
            except RedisError:
                pass  # killed below

        running = threading.Thread(target=run)
        running.start()
        wait_until(lambda: "BUSY" in _error(lambda: client.get("any")), "the script to run")
        yield
        client.script_kill()
        running.join()


@contextmanager
def too_many_clients(server: Server) -> Iterator[None]:
    """All connections that the server allows are taken, and ours are closed."""
    with server.client() as client:
        before = client.config_get("maxclients")["maxclients"]
        client.config_set("maxclients", "1")
        client.client_kill_filter(_type="normal", skipme=True)
        yield
        client.config_set("maxclients", before)


@contextmanager
def password_changed(server: Server) -> Iterator[None]:
    """NOAUTH, as after a change of the password: ours is not valid any more."""
    with server.client() as client:
        client.config_set("requirepass", "secret")
        client.execute_command("AUTH", "secret")
        client.client_kill_filter(_type="normal", skipme=True)
        yield
        client.config_set("requirepass", "")


def _error(call: Callable[[], object]) -> str:
    try:
        call()
    except RedisError as error:
        return str(error)
    return ""


#: Faults under which no request can be admitted. Name -> context.
FAULTS = {
    fault.__name__: fault
    for fault in (
        refused, hung, loading, out_of_memory, no_replicas, read_only, failed_save, busy,
        too_many_clients, password_changed,
    )
}
