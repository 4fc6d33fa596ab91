"""`flask up`: one command, and nothing left behind."""

import os
import pty
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.load import Client
from tests.processes import HOST, ROOT, Process, Server, free_port, listens, wait_until
from tests.state import KEYS

FLASK = str(Path(sys.executable).parent / "flask")


def processes_with(text):
    """Ids of the processes, zombies aside, that have `text` in their environment."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if text.encode() in (folder / "environ").read_bytes():
                found.append(int(folder.name))
        except OSError:
            pass
    return found


class Up(Process):
    """`flask up` in a folder of its own, marked so that all it starts can be found."""

    def __init__(self, folder, *arguments, **variables):
        self.port, self.redis_port = free_port(), free_port()
        self.url = f"http://{HOST}:{self.port}/api/coupons"
        self.mark = f"up-test-{self.port}"
        for name in ("Procfile", "wsgi.py", "worker.py", "gunicorn.conf.py"):
            if not (folder / name).exists():
                (folder / name).symlink_to(ROOT / name)
        command = [FLASK, "up", "--port", str(self.port), "--redis-port", str(self.redis_port)]
        super().__init__(
            [*command, *arguments], folder / "up.log", folder, MARK=self.mark, **variables
        )

    def stop(self):
        """End it as a person would, so that what it started ends too."""
        if self.popen and self.popen.poll() is None:
            self.popen.terminate()
        super().wait()
        self.assert_nothing_left()

    def assert_nothing_left(self):
        wait_until(
            # The server shows no environment, for it writes its title there.
            lambda: processes_with(self.mark) == [] and not listens(self.redis_port),
            "all processes to end",
        )

    def issue(self, user):
        client = Client(self.url)
        client.register("A", 2, token="local")
        client.ask("A", user)
        wait_until(lambda: self.status(user) == "issued", "the coupon to be issued")

    def status(self, user):
        return Client(self.url).call("GET", f"/A/users/{user}")[2].get("status")


@pytest.fixture
def up(tmp_path, launch):
    def start(*arguments, **variables):
        return launch(Up(tmp_path, *arguments, **variables).start())

    return start


def test_everything_runs_and_stops_and_the_data_is_there_again(up, tmp_path):
    for user in ("u1", "u2"):
        running = up()
        wait_until(lambda: listens(running.port), "the API to listen")
        running.issue(user)
        running.signal(signal.SIGINT)
        assert running.wait() == 130
        running.assert_nothing_left()
    assert (tmp_path / "instance").is_dir()
    running = up()
    wait_until(lambda: listens(running.port), "the API to listen")
    assert [running.status("u1"), running.status("u2")] == ["issued", "issued"]


def test_ledger_is_copied_where_one_is_set(up, tmp_path):
    running = up(COUPON_LEDGER="file:ledger")
    wait_until(lambda: listens(running.port), "the API to listen")
    Client(running.url).register("A", 1, token="local")
    wait_until(lambda: list(tmp_path.glob("ledger/ledger-*.jsonl")), "the ledger")


def test_sigterm_stops_everything(up):
    running = up()
    wait_until(lambda: listens(running.port), "the API to listen")
    running.signal(signal.SIGTERM)
    assert running.wait() == 143
    running.assert_nothing_left()


def test_closed_terminal_stops_everything(tmp_path, launch):
    up = launch(Up(tmp_path))
    terminal, inside = pty.openpty()
    up.popen = subprocess.Popen(
        [sys.executable, "-c",
         "import fcntl, os, sys, termios; fcntl.ioctl(0, termios.TIOCSCTTY, 0);"
         "os.execv(sys.argv[1], sys.argv[1:])", *up.command],
        cwd=tmp_path, env={**os.environ, **up.variables}, start_new_session=True,
        stdin=inside, stdout=inside, stderr=inside,
    )
    os.close(inside)
    wait_until(lambda: listens(up.port), "the API to listen")
    assert len(processes_with(up.mark)) > 2
    os.close(terminal)
    up.wait()
    up.assert_nothing_left()


@pytest.mark.parametrize(
    "delay, number",
    [(0, signal.SIGINT), (0.02, signal.SIGTERM), (0.1, signal.SIGHUP), (0.2, signal.SIGINT),
     (0.4, signal.SIGTERM)],
)
def test_signal_while_the_processes_start_leaves_nothing(up, delay, number):
    running = up()
    wait_until(lambda: running.output(), "the first line")
    time.sleep(delay)
    running.signal(number)
    running.wait()
    running.assert_nothing_left()


def test_two_servers_never_share_their_data(up, tmp_path):
    first = up("redis")
    wait_until(lambda: listens(first.redis_port), "the server to listen")
    second = up("redis")
    assert second.wait() == 1
    assert second.output().splitlines()[-1] == (
        f"Error: another server uses the data in {tmp_path / 'instance'}"
    )


def test_given_server_is_used_and_none_is_started(up, own_server):
    running = up(REDIS_URL=own_server.url)
    wait_until(lambda: listens(running.port), "the API to listen")
    running.issue("u")
    assert own_server.client().get(KEYS.stock("A")) == "1"
    assert not listens(running.redis_port)


def test_only_the_named_processes_are_started(up):
    running = up("redis", "worker")
    wait_until(lambda: listens(running.redis_port), "the server to listen")
    wait_until(lambda: "worker starts" in running.output(), "the worker to start")
    assert not listens(running.port)


@pytest.mark.parametrize("taken", ["port", "redis_port"])
def test_taken_port_is_one_clear_line(tmp_path, launch, taken):
    up = launch(Up(tmp_path))
    port = getattr(up, taken)
    occupant = launch(
        Process([sys.executable, "-m", "http.server", str(port), "--bind", HOST],
                tmp_path / "occupant.log").start()
    )
    wait_until(lambda: listens(port), "the port to be taken")
    assert up.start().wait() == 1
    assert up.output().startswith(f"Error: port {port} is in use: ")
    assert up.output().count("\n") == 1
    occupant.stop()


def test_private_server_cannot_be_asked_for_beside_a_given_one(up):
    running = up("redis", REDIS_URL="redis://localhost:1/0")
    assert running.wait() == 1
    assert running.output().startswith("Error: REDIS_URL is set")


def test_flask_run_serves_beside_a_worker(up, own_server, launch, tmp_path):
    up("worker", REDIS_URL=own_server.url)
    port = free_port()
    launch(Process(
        [FLASK, "run", "--port", str(port)], tmp_path / "run.log", REDIS_URL=own_server.url
    ).start())
    wait_until(lambda: listens(port), "the API to listen")
    client = Client(f"http://{HOST}:{port}/api/coupons")
    client.register("A", 1)
    assert client.ask("A", "u").status == 200
    wait_until(lambda: client.call("GET", "/A/users/u")[2]["status"] == "issued", "the decision")


def test_failing_process_stops_the_others(up, own_server):
    running = up(REDIS_URL="redis://localhost:6379/?nonsense=1")
    assert running.wait() not in (0, 130)
    assert re.search(r"^(web|worker) has ended \(\d+\): all are stopped$", running.output(), re.M)
    running.assert_nothing_left()


def test_private_server_keeps_its_data_and_evicts_nothing(up):
    running = up("redis")
    wait_until(lambda: listens(running.redis_port), "the server to listen")
    server = Server.__new__(Server)
    server.url = f"redis://{HOST}:{running.redis_port}/0"
    settings = server.client().config_get("appendonly", "appendfsync", "maxmemory-policy")
    assert settings == {
        "appendonly": "yes", "appendfsync": "always", "maxmemory-policy": "noeviction",
    }


def test_outside_the_project_is_one_clear_line(tmp_path, launch):
    process = launch(Process([FLASK, "up"], tmp_path / "log", tmp_path).start())
    assert process.wait() == 1
    assert process.output() == (
        "Error: there is no Procfile here: run this in the folder of the project\n"
    )


def test_commands_beside_it_find_its_server(up, tmp_path):
    running = up()
    wait_until(lambda: listens(running.port), "the API to listen")
    running.issue("u")
    result = subprocess.run(
        [FLASK, "coupons", "list"], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert result.stderr == f"REDIS_URL is not set: using redis://{HOST}:{running.redis_port}/0\n"
    assert result.stdout.splitlines()[1].split()[:2] == ["A", "open"]
    running.signal(signal.SIGTERM)
    running.wait()
    assert not (tmp_path / "instance" / "redis-url").exists()


def test_server_that_is_not_running_any_more_is_not_taken_for_the_one_to_use(tmp_path):
    (tmp_path / "instance").mkdir()
    (tmp_path / "instance" / "redis-url").write_text(f"redis://{HOST}:1/0")
    result = subprocess.run(
        [FLASK, "coupons", "list"], cwd=tmp_path, capture_output=True, text=True
    )
    assert result.stderr.startswith("REDIS_URL is not set: using redis://localhost:6379/0\n")


def test_sigint_stops_it_also_where_it_was_ignored_before(tmp_path, launch):
    """As a shell starts a background job of a script."""
    up = Up(tmp_path)
    up.command = ["/bin/sh", "-c", 'trap "" INT; exec "$@"', "sh", *up.command]
    launch(up).start()
    wait_until(lambda: "the admin token is" in up.output(), "the first line")
    up.signal(signal.SIGINT)
    assert up.wait() == 130
    up.assert_nothing_left()
