"""`flask up`: everything on one machine, a private Redis server, the API and a worker."""

import os
import shlex
import signal
import socket
import sys
import time
from contextlib import suppress
from pathlib import Path
from subprocess import PIPE, STDOUT, Popen
from threading import Thread
from typing import IO

import click

from coupon_service.cli.local_server import (
    FOLDER,
    HOST,
    URL_FILE,
    find_server,
    lock,
    server_command,
)
from coupon_service.config import DEFAULT_PORT, DEFAULT_REDIS_PORT, environment

#: Seconds that the processes have between SIGTERM and SIGKILL.
GRACE = 5.0
#: The admin token unless another one is set.
LOCAL_TOKEN = "local"


@click.command()
@click.argument("processes", nargs=-1, type=click.Choice(["redis", "web", "worker", "ledger"]))
@click.option("--port", default=DEFAULT_PORT, envvar="PORT", show_default=True)
@click.option("--redis-port", default=DEFAULT_REDIS_PORT, show_default=True)
def up(processes: tuple[str, ...], port: int, redis_port: int) -> None:
    """Run a private Redis server, the API and a worker on this machine, and with COUPON_LEDGER set
    the copier of the ledger.

    Names of PROCESSES run only those. With REDIS_URL set, that server is used.
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
        locks.append(lock(folder))
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
        commands = {name: commands[name] for name in names}
        sys.exit(_supervise(commands, variables, locks, received))
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
    ended = {
        name: process.returncode for name, process in zip(commands, running, strict=True)
        if process.returncode is not None
    }
    if not received:
        for name, code in ended.items():
            click.echo(f"{name} has ended ({code}): all are stopped", err=True)
    for number in (signal.SIGTERM, signal.SIGKILL):
        for process in running:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, number)
        deadline = time.monotonic() + GRACE
        while any(process.poll() is None for process in running) and time.monotonic() < deadline:
            time.sleep(0.02)
    for thread in printing:
        thread.join(1)
    return 128 + received[0] if received else abs(next(iter(ended.values())))


def _print(prefix: str, lines: IO[bytes]) -> None:
    for line in lines:
        try:
            print(prefix + line.decode(errors="replace"), end="", flush=True)
        except OSError:
            pass  # the terminal is gone; the processes must not block on a full pipe
