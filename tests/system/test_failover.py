"""A primary that is demoted behind its address, and lives on with our connections."""

from contextlib import contextmanager

import pytest

from coupon_service.connection import NotPrimary, connect
from coupon_service.scripts import Registration, Request
from coupon_service.web.app import create_app
from tests.processes import HOST, free_port, wait_until, worker
from tests.state import KEYS, assert_consistent, config_with, scripts_on
from tests.system.chaos.proxy import Proxy


@pytest.fixture
def proxy(pair):
    """A proxy whose new connections lead to the primary."""
    with Proxy(pair.primary.port, seed=1) as proxy:
        yield proxy


@contextmanager
def connections_kept(server):
    before = {each["id"] for each in server.client().client_list(_type="normal")}
    yield
    assert before & {each["id"] for each in server.client().client_list(_type="normal")}


def fail_over(pair, proxy):
    with connections_kept(pair.primary):
        pair.demote()
    proxy.server_port = pair.primary.port


def ask(api, user):
    return api.post("/api/coupons/request", json={"couponId": "A", "userId": user})


def test_api_finds_the_new_primary_without_a_restart(pair, proxy):
    api = create_app(config_with(redis_url=proxy.url, admin_token="x")).test_client()
    register = {"json": {"couponId": "A", "quantity": 9}, "headers": {"Authorization": "Bearer x"}}
    assert api.post("/api/coupons/register", **register).status_code == 200
    assert ask(api, "before").status_code == 200
    fail_over(pair, proxy)
    assert ask(api, "after").status_code == 200
    fail_over(pair, proxy)
    assert api.post("/api/coupons/register", **register).status_code == 200
    assert api.post("/api/coupons/A/close", **register).status_code == 200
    assert pair.client().hkeys(KEYS.pending("A")) == ["before", "after"]


def test_worker_finds_the_new_primary_without_a_restart(pair, proxy, launch, tmp_path):
    process = launch(worker(proxy.url, tmp_path / "worker.log"))
    api = create_app(config_with(redis_url=proxy.url)).test_client()
    api.post("/api/coupons/register", json={"couponId": "A", "quantity": 9})
    for user in ("u1", "u2", "u3"):
        assert ask(api, user).status_code == 200
        wait_until(lambda: pair.client().exists(KEYS.user("A", user)), "the decision")
        fail_over(pair, proxy)
    assert process.popen.poll() is None
    assert_consistent(pair.client(), "A")


def test_demoted_primary_answers_nothing(pair, proxy):
    """Its data is old: what was registered and requested since then is unknown there."""
    url, token = "/api/coupons", {"Authorization": "Bearer x"}
    api, other = (
        create_app(config_with(redis_url=proxy.url, admin_token="x")).test_client()
        for _ in range(2)
    )
    register = {"json": {"couponId": "A", "quantity": 9}, "headers": token}
    assert ask(api, "u").status_code == 404
    for path in ("A/users/u", "A"):  # each on a connection of its own
        assert api.get(f"{url}/{path}").status_code == 404
    with connections_kept(pair.primary):
        pair.demote()
    pair.replica.client().execute_command("REPLICAOF", HOST, free_port())
    proxy.server_port = pair.primary.port
    assert other.post(f"{url}/register", **register).status_code == 200
    assert ask(other, "u").status_code == 200

    assert ask(api, "another").status_code == 200
    assert api.get(f"{url}/A/users/u").json["status"] == "pending"
    wait_until(lambda: api.get(f"{url}/A").status_code == 200, "the read of the new primary", 5)


@pytest.mark.parametrize("rules", [("+@all",), ("+@all", "-del")])
def test_write_that_is_tried_takes_no_reply_of_another_command(own_server, monkeypatch, rules):
    monkeypatch.setattr("coupon_service.connection.STALE_FOR", 0.0)
    own_server.client().execute_command("ACL", "SETUSER", "u", "on", ">p", "~*", *rules)
    url = own_server.url.replace("redis://", "redis://u:p@")
    with connect(config_with(redis_url=url)) as client:
        for number in range(20):
            assert client.set("key", number)
            with client.pipeline() as reads:
                reads.get("key").hget("key", "field").get("key")
                first, error, last = reads.execute(raise_on_error=False)
            assert (first, last) == (str(number), str(number))
            assert "WRONGTYPE" in str(error)
    tried = own_server.client().info("commandstats")["cmdstat_del"]
    assert tried["calls"] + tried["rejected_calls"] == 40


@pytest.fixture
def replica(real_client):
    """A client of a replica that is empty, and whose primary does not answer."""
    real_client.execute_command("REPLICAOF", HOST, free_port())
    yield real_client
    real_client.execute_command("REPLICAOF", "NO", "ONE")


REQUEST = Request("A", "u", "r", "1-1")


@pytest.mark.parametrize("name, arguments", [
    ("register", ([Registration("A", 1)], True)), ("register", ([Registration("A", 1)],)),
    ("admit", ([REQUEST],)), ("status", ([REQUEST],)), ("close", ("A",)),
    ("cancel", ("A", "u", "r")), ("delete", ("A",)), ("retry", ("1-1", REQUEST)),
    ("discard", ("1-1", REQUEST)),
])
def test_script_does_not_reply_on_a_replica(replica, name, arguments):
    with pytest.raises(NotPrimary):
        getattr(scripts_on(replica), name)(*arguments)
