"""The ACL of docs/operations.md is enough for all that the service does, and no more than that."""

import re
import shlex

import pytest
from click.testing import CliRunner
from redis import Redis

from coupon_service.cli.coupons import coupons as command
from coupon_service.cli.ledger import ledger
from coupon_service.config import Config
from coupon_service.connection import connect
from coupon_service.installation import Partitions
from coupon_service.keys import GROUP
from coupon_service.removal import PAGE
from coupon_service.web import preflight
from coupon_service.web.app import create_app
from tests.processes import HOST, ROOT, wait_until
from tests.state import (
    KEYS,
    PARTITIONS,
    backlog,
    config_with,
    drain,
    installation_on,
    load_format_1,
    partitions_on,
    worker_on,
)

#: What only data of version 0.1, which has no partitions, makes a worker do.
MIGRATION = {"persist", "pttl", "rename", "srandmember", "srem"}


def rules():
    """The arguments of ACL SETUSER in the page; with the patterns for partitions, if there are."""
    page = (ROOT / "docs" / "operations.md").read_text(encoding="utf-8")
    [block] = re.findall(r"^redis-cli acl setuser (.*?)(?<!\\)\n", page, re.DOTALL | re.MULTILINE)
    words = shlex.split(block.replace("\\\n", ""))
    if PARTITIONS > 1:
        words += ["~{*}:" + word[1:] for word in words if word.startswith("~coupon")]
    return words


def commands(words):
    """The commands that are allowed, without what follows their names."""
    return {word[1:].partition("|")[0] for word in words if word.startswith("+")}


@pytest.fixture
def server(own_server):
    """A server whose user of the service has database 1."""
    own_server.client().execute_command("ACL", "SETUSER", *rules())
    name, password = rules()[0], next(word[1:] for word in rules() if word[0] == ">")
    own_server.service_url = f"redis://{name}:{password}@{HOST}:{own_server.port}/1"
    own_server.owner = Redis.from_url(
        own_server.url.removesuffix("/0") + "/1", decode_responses=True
    )
    return own_server


@pytest.fixture
def client(server):
    """The connections of the service."""
    if PARTITIONS == 1:
        load_format_1(server.owner)
    with connect(Config(redis_url=server.service_url), 5.0, retries=0) as client:
        yield client


def everything_that_is_done(server, client, monkeypatch):
    """Let the API, a worker and the command line do what they can, on real records."""
    owner, http = server.owner, create_app(config_with(admin_token="t"), client).test_client()

    def call(method, path, body=None, status=200):
        answer = http.open(f"/api{path}", method=method, json=body,
                           headers={"Authorization": "Bearer t"})
        assert answer.status_code == status, (method, path, answer.text)
        answer.get_data()
        return answer.json

    def ask(user, coupon="A", status=200):
        return call("POST", "/coupons/request", {"couponId": coupon, "userId": user}, status)

    for installation in partitions_on(client):
        installation.migration.run()
    worker = worker_on(client)
    preflight.check(Partitions(config_with(redis_url=server.service_url, admin_token="t"), None))

    call("POST", "/coupons/register", [
        {"couponId": "A", "quantity": 5}, {"couponId": "B", "quantity": 2 * PAGE + 50},
    ])
    call("POST", "/coupons/register", {"couponId": "A", "quantity": 6})
    for user in ("issued", "cancelled", "withdrawn"):
        ask(user)
    call("DELETE", "/coupons/A/users/withdrawn")
    drain(client, worker)
    call("DELETE", "/coupons/A/users/cancelled")
    ask("issued", status=409)
    for path in ("/A", "/A/users/issued", "/A/statistics", "", "/A/issuances",
                 "/A/issuances?userId=issued", "/A/issuances?format=csv"):
        call("GET", f"/coupons{path}")
    call("GET", "/users/issued/coupons")
    for path in ("", "?prefix=A", "/coupons/A", "/system"):
        call("GET", f"/dashboard{path}")
    metrics = http.get("/metrics", headers={"Authorization": "Bearer t"})
    assert 'coupon_decision_seconds_bucket{le="+Inf"' in metrics.text
    assert http.get("/metrics", headers={"Authorization": "Bearer t"}).status_code == 200
    assert http.get("/readyz").json["workers"] == 1

    # An entry of another producer that cannot be decided, and a stock that is corrupt meanwhile.
    ask("dead")
    owner.set(KEYS.stock("A"), "abc")
    owner.xadd(KEYS.requests, {"couponId": "A"})
    drain(client, worker)
    owner.set(KEYS.stock("A"), 5)
    names = [each["deadLetter"] for each in call("GET", "/dead-letters")["deadLetters"]]
    assert len(names) == 2
    call("POST", f"/dead-letters/{names[0]}/retry")
    drain(client, worker)
    call("DELETE", f"/dead-letters/{names[1]}")

    # A request whose entry is lost.
    ask("lost")
    owner.xtrim(KEYS.requests, maxlen=0, approximate=False)
    monkeypatch.setenv("REDIS_URL", server.service_url)
    monkeypatch.setenv("COUPON_LEDGER", f"file:{server.folder}/ledger/")
    found = CliRunner().invoke(command, ["reconcile", "--fix"])
    assert "1 disagreements, 0 left" in found.output
    drain(client, worker)

    # Entries of a worker that died, and of requests that a removal refuses.
    ask("first", "B")
    drain(client, worker)
    for number in range(2 * PAGE + 10):
        ask(f"u{number}", "B")
    owner.xreadgroup(GROUP, "died", {KEYS.of("B").requests: ">"}, count=1)
    call("POST", "/coupons/B/close")
    call("DELETE", "/coupons/B")
    wait_until(lambda: worker.run_once() + 1 and not owner.exists(KEYS.coupon("B")), "the removal")
    assert not backlog(owner)
    create_app(config_with(admin_token="t", replicas=1), client).test_client().post(
        "/api/coupons/request", json={"couponId": "A", "userId": "waits for a replica"}
    )
    scripts = installation_on(client, "B").worker_scripts
    scripts.remove_consumer("died")
    the_log(owner, scripts, monkeypatch)


def the_log(owner, scripts, monkeypatch):
    """Copy and trim it, lose it, accept the loss, and retire the sink."""
    def flask(*arguments):
        result = CliRunner().invoke(ledger, arguments)
        assert result.exit_code == 0, result.output
        return result.output

    flask("copy")
    name = flask("status").split()[0]
    assert "0 differences" in flask("verify")
    while scripts.trim(1):
        pass
    assert owner.xlen(KEYS.of("B").log) == 1
    owner.delete(KEYS.log)
    flask("accept", name, "--yes")
    monkeypatch.delenv("COUPON_LEDGER")
    flask("forget", name)


def test_user_of_the_documentation_may_do_what_the_service_does(server, client, monkeypatch):
    everything_that_is_done(server, client, monkeypatch)
    assert server.owner.acl_log() == []


def test_no_command_is_allowed_that_is_not_needed(server, client, monkeypatch):
    everything_that_is_done(server, client, monkeypatch)
    used = {name.partition("_")[2].partition("|")[0] for name in server.owner.info("commandstats")}
    allowed = commands(rules())
    not_here = MIGRATION if PARTITIONS > 1 else set()
    assert allowed - used - not_here == set()


def test_no_other_keys_and_commands_are_allowed(server, client):
    for refused in (["GET", "other"], ["KEYS", "*"], ["FLUSHALL"], ["DEL", "couponsX"],
                    ["CONFIG", "SET", "appendonly", "no"], ["ACL", "LIST"], ["SHUTDOWN"]):
        with pytest.raises(Exception, match="(?i)permission"):
            client.execute_command(*refused)
