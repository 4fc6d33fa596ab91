"""The commands for backup and restore in docs/operations.md do what the page says."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from coupon_service.scripts import Registration
from tests.processes import ROOT, Server, tool
from tests.state import assert_consistent, coupons_on, drain, everything, worker_on


def blocks():
    """The commands of the section, block by block."""
    page = (ROOT / "docs" / "operations.md").read_text(encoding="utf-8")
    section = page.split("## Backup and restore")[1].split("\n## ")[0]
    return re.findall(r"```sh\n(.*?)```", section, re.DOTALL)


@pytest.fixture
def server(tmp_path, monkeypatch):
    """A server of the program that the commands start."""
    monkeypatch.setenv("COUPON_TEST_SERVER", tool("redis-server"))
    tool("redis-cli")
    folder = tmp_path / "redis"
    folder.mkdir()
    server = Server(folder).start()
    yield server
    server.stop()


@pytest.fixture
def restored(server, tmp_path):
    """The server that the commands start."""
    server = Server(tmp_path)
    yield server
    subprocess.run(["redis-cli", "-p", str(server.port), "shutdown", "nosave"],
                   capture_output=True)


@pytest.mark.long
@pytest.mark.parametrize("way", ["snapshot", "aof"])
def test_restored_data_agrees_and_goes_on(server, restored, tmp_path, way):
    snapshot, aof, restore_snapshot, restore_aof, start = blocks()
    backup, restore = (snapshot, restore_snapshot) if way == "snapshot" else (aof, restore_aof)
    version = server.client().info()["redis_version"]
    if way == "aof" and int(version.partition(".")[0]) < 7:
        pytest.skip("the AOF of Redis 6.2 is one file")

    def run(commands):
        commands = commands.replace("6379", str(server.port)).replace("6380", str(restored.port))
        environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
                       "PYTHONPATH": str(ROOT)}
        result = subprocess.run(["bash", "-ec", commands], cwd=tmp_path, env=environment,
                                capture_output=True, text=True, timeout=60)
        assert result.returncode == 0, result.stdout + result.stderr
        return result.stdout

    client = server.client()
    coupons = coupons_on(client)
    coupons.register(Registration("A", 10), Registration("B", 10))
    for number in range(3):
        coupons.request("A", f"issued{number}", "r")
    drain(client, worker_on(client))
    for number in range(3):
        coupons.request("A", f"pending{number}", "r")
    before = everything(client)
    run(backup)
    coupons.request("A", "after the backup", "r")
    server.stop()

    run(restore)
    assert "2 coupons, 0 disagreements, 0 left" in run(start)
    assert everything(restored.client()) == before
    drain(restored.client(), worker_on(restored.client()))
    assert_consistent(restored.client(), "A", "B")
    assert coupons_on(restored.client()).user("A", "pending0")["status"] == "issued"
