"""What is said at the start about a server that would break a promise."""

import subprocess
import sys

import pytest

from coupon_service.web import preflight
from coupon_service.config import environment
from coupon_service.installation import Partitions
from tests.processes import ROOT
from tests.state import KEYS, config_with, partitions_on
from tests.system import faults


@pytest.fixture
def said(own_server, caplog):
    def said():
        caplog.clear()
        config = config_with(redis_url=own_server.url, admin_token="x")
        preflight.check(Partitions(config, None, 1, 0))
        return caplog.messages

    return said


def test_nothing_is_said_of_a_good_server(said):
    assert said() == []


def test_eviction_policy_that_loses_coupons(own_server, said):
    with faults.configured(own_server, maxmemory_policy="allkeys-lru"):
        [line] = said()
    assert line.startswith("redis may evict stock") and "maxmemory_policy:allkeys-lru" in line


def test_evicted_keys(own_server, said):
    client = own_server.client()
    client.mset({f"key{number}": "x" * 1000 for number in range(5000)})
    with faults.configured(own_server, maxmemory_policy="allkeys-random", maxmemory="4mb"):
        client.set("one", "more")
    [line] = said()
    assert line.startswith("redis has evicted keys")


def test_missing_aof(own_server, said):
    with faults.configured(own_server, appendonly="no"):
        [line] = said()
    assert line.startswith("redis loses accepted requests") and "aof_enabled:0" in line


def test_failed_snapshot(own_server, said):
    with faults.failed_save(own_server):
        [line] = said()
    assert line.startswith("redis could not save a snapshot")


def test_replica(own_server, said):
    with faults.read_only(own_server):
        [line] = said()
    assert line.startswith("redis is a replica")


def test_server_that_refuses_info_is_left_in_peace(own_server, said):
    client = own_server.client()
    client.execute_command("ACL", "SETUSER", "default", "-info")
    with faults.configured(own_server, maxmemory_policy="allkeys-lru"):
        assert said() == []


def test_missing_admin_token_is_said_loudly(own_server, caplog):
    config = config_with(redis_url=own_server.url)
    preflight.check(Partitions(config, None, 1, 0))
    [line] = caplog.messages
    assert "COUPON_ADMIN_TOKEN is not set: ANYBODY may register" in line


@pytest.mark.parametrize(
    "prefix, lines",
    [("", 1), ("coupons:", 1), ("{:", 1), ("{}:", 1), ("{}{a}:", 1), ("{coupons}:", 0),
     ("a{b}", 0)],
)
def test_cluster_node_without_a_hash_tag(monkeypatch, caplog, fake_client, prefix, lines):
    monkeypatch.setattr(fake_client, "info", lambda: {"cluster_enabled": 1}, raising=False)
    preflight.check(
        partitions_on(fake_client, partitions=1, key_prefix=prefix, admin_token="x")
    )
    assert len(caplog.messages) == lines


def test_fsync_that_loses_what_was_acknowledged(own_server, said):
    with faults.configured(own_server, appendfsync="everysec"):
        [line] = said()
    assert "set appendfsync always" in line


def test_wrong_password_is_not_said_to_be_silence(own_server, said):
    with faults.password_changed(own_server):
        [line] = said()
    assert line.startswith("redis does not accept the user or password")
    assert "does not answer" not in line


def test_only_what_serves_requests_is_checked(own_server, tmp_path):
    """`flask` loads the application for its help and for the commands of the application."""
    for arguments in (["--help"], ["routes"], ["coupons", "list"]):
        result = subprocess.run(
            [sys.executable, "-m", "flask", *arguments], cwd=ROOT, capture_output=True, text=True,
            env=environment(REDIS_URL=own_server.url), check=True,
        )
        assert "COUPON_ADMIN_TOKEN" not in result.stderr + result.stdout


def test_commands_are_there_where_only_the_requirements_are_installed(own_server, tmp_path):
    """Without the entry points of an installed package, as buildpacks deploy it."""
    (tmp_path / "checkout").mkdir()
    for name in ("coupon_service", "wsgi.py"):
        (tmp_path / "checkout" / name).symlink_to(ROOT / name)
    program = (
        "import importlib.metadata as m; m.entry_points = lambda **_: ();"
        "from flask.cli import main; main()"
    )
    result = subprocess.run(
        [sys.executable, "-c", program, "coupons", "register", "A", "5"],
        cwd=tmp_path / "checkout", capture_output=True, text=True,
        env=environment(REDIS_URL=own_server.url),
    )
    assert result.returncode == 0, result.stderr
    assert own_server.client().get(KEYS.stock("A")) == "5"
