"""Dead letters are listed, retried and discarded, over HTTP and from the command line."""

import json

import pytest
from click.testing import CliRunner

from coupon_service.admin.dead_letters import DeadLetters
from coupon_service.admin.scripts import AdminScripts
from coupon_service.cli.coupons import coupons as command
from coupon_service.scripts import Registration, Request
from coupon_service.web.app import create_app
from tests.state import (
    KEYS,
    assert_consistent,
    config_with,
    decided,
    drain,
    everything,
    installation_on,
    operations_on,
    partitions_on,
)

P = KEYS.all.index(KEYS.of("A"))


@pytest.fixture
def admin(client):
    http = create_app(config_with(admin_token="secret"), client).test_client()

    def call(method, path):
        return http.open(f"/api/dead-letters{path}", method=method,
                         headers={"Authorization": "Bearer secret"})

    return call


@pytest.fixture
def dead(client, coupons, worker):
    """Coupon A: 5, whose stock was overwritten while the requests of u0 … u2 were pending."""
    coupons.register(Registration("A", 5))
    for number in range(3):
        coupons.request("A", f"u{number}", f"r{number}")
    client.set(KEYS.stock("A"), "abc")
    drain(client, worker)
    assert client.xlen(KEYS.dead) == 3
    return [f"{P}:{dead_id}" for dead_id, _ in client.xrange(KEYS.dead)]


def test_dead_letters_are_listed_in_pages_with_reason_and_fields(admin, dead):
    first = admin("GET", "?limit=2").json
    assert [each["deadLetter"] for each in first["deadLetters"]] == dead[:2]
    shown = first["deadLetters"][0]
    assert "CORRUPT stock" in shown["reason"]
    assert shown["fields"] == {"couponId": "A", "userId": "u0", "requestId": "r0"}
    assert shown["deadAt"].endswith("Z")
    last = admin("GET", f"?limit=2&after={first['next']}").json
    assert [each["deadLetter"] for each in last["deadLetters"]] == dead[2:]
    assert last["next"] is None


def test_retried_request_is_issued_exactly_once(admin, client, worker, coupons, dead):
    client.set(KEYS.stock("A"), 5)
    answer = admin("POST", f"/{dead[0]}/retry")
    assert answer.status_code == 200
    [(entry_id, fields)] = client.xrange(KEYS.requests)
    assert answer.json["entryId"] == entry_id
    assert client.hget(KEYS.pending("A"), "u0") == f"r0 {entry_id}"
    again = admin("POST", f"/{dead[0]}/retry")
    assert (again.status_code, again.json["code"]) == (404, "unknown_dead_letter")
    drain(client, worker)
    assert coupons.user("A", "u0")["status"] == "issued"
    assert_consistent(client, "A")


@pytest.mark.parametrize("gone", ["cancelled", "deleted", "requested anew"])
def test_retry_is_refused_when_the_mark_or_the_life_is_gone(
    admin, client, coupons, dead, gone
):
    client.set(KEYS.stock("A"), 5)
    if gone == "deleted":
        operations_on(client).delete("A")
    else:
        operations_on(client).cancel("A", "u0")
    if gone == "requested anew":
        coupons.request("A", "u0", "r0")
    before = everything(client)
    answer = admin("POST", f"/{dead[0]}/retry")
    assert (answer.status_code, answer.json["code"]) == (409, "not_pending")
    assert everything(client) == before


def test_discarded_request_gives_its_place_back_and_is_logged_once(admin, client, coupons, dead):
    client.set(KEYS.stock("A"), 5)
    answer = admin("DELETE", f"/{dead[1]}")
    assert answer.json == {
        "message": "dead letter discarded", "deadLetter": dead[1], "placeReturned": True,
    }
    assert admin("DELETE", f"/{dead[1]}").status_code == 404
    assert client.get(KEYS.requested("A")) == "2"
    [(_, line)] = decided(client)
    assert (line["userId"], line["decision"]) == ("u1", "discarded")
    assert coupons.request("A", "u1", "again")["status"] == "pending"
    assert_consistent(client, "A")


def test_malformed_dead_letter_is_discarded_and_changes_nothing_else(admin, client, worker):
    client.xadd(KEYS.requests, {"x": "y"})
    drain(client, worker)
    [(dead_id, _)] = client.xrange(KEYS.dead)
    assert admin("POST", f"/{P}:{dead_id}/retry").json["code"] == "not_pending"
    assert admin("DELETE", f"/{P}:{dead_id}").json["placeReturned"] is False
    assert client.xlen(KEYS.dead) == 0
    assert not decided(client)


FIELDS = '{"couponId": "A", "userId": "u0", "requestId": "r0"}'


@pytest.mark.parametrize("entry, fields", [
    ({"x": "y"}, {}),
    ({"entryId": "1-1", "reason": "r"}, {}),
    ({"reason": "r", "fields": FIELDS}, json.loads(FIELDS)),
    ({"entryId": "1-1", "fields": FIELDS}, json.loads(FIELDS)),
    *(({"entryId": "1-1", "reason": "r", "fields": fields}, {}) for fields in (
        "", "{", "[]", "null", '"x"', "[" * 9000, '{"couponId": 5}', '{"userId": "\\ud800"}',
        '{"x": NaN}', '{"userId": {"x": "y"}}',
    )),
])
def test_dead_letter_that_is_broken_is_listed_with_the_others_and_discarded(
    admin, client, dead, entry, fields
):
    added = client.xadd(KEYS.dead, entry)
    broken, before = f"{P}:{added}", everything(client)
    listed = admin("GET", "").json["deadLetters"]
    assert [each["deadLetter"] for each in listed] == [*dead, broken]
    assert {name: listed[-1][name] for name in ("entryId", "reason", "fields")} == {
        "entryId": entry.get("entryId", ""), "reason": "corrupt_data", "fields": fields,
    }
    answer = admin("POST", f"/{broken}/retry")
    assert (answer.status_code, answer.json["code"]) == (409, "not_pending")
    assert everything(client) == before
    assert admin("DELETE", f"/{broken}").json["placeReturned"] is False
    before[KEYS.dead].pop()
    assert everything(client) == before


def test_dead_letter_of_an_instant_beyond_all_years_is_listed_and_discarded(admin, client):
    client.xadd(KEYS.dead, {"entryId": "1-1", "reason": "r", "fields": "{}"}, id=f"{10**18}-0")
    [listed] = admin("GET", "").json["deadLetters"]
    assert (listed["deadAt"], listed["reason"]) == (None, "r")
    assert admin("DELETE", f"/{listed['deadLetter']}").status_code == 200


def test_discard_of_a_corrupt_coupon_changes_nothing(admin, client, dead):
    client.set(KEYS.requested("A"), "many")
    before = everything(client)
    answer = admin("DELETE", f"/{dead[0]}")
    assert (answer.status_code, answer.json["code"]) == (500, "corrupt_data")
    assert everything(client) == before


def test_scripts_that_run_twice_change_nothing_the_second_time(client, dead):
    client.set(KEYS.stock("A"), 5)
    scripts = AdminScripts(installation_on(client).scripts)
    [(first, entry), (second, other), _] = client.xrange(KEYS.dead)
    retried, discarded = (
        Request("A", "u0", "r0", entry["entryId"]), Request("A", "u1", "r1", other["entryId"])
    )
    assert scripts.retry(first, retried)[0] == "retried"
    assert scripts.discard(second, discarded) == ["discarded", 1]
    before = everything(client)
    assert scripts.retry(first, retried) == ["unknown_dead_letter"]
    assert scripts.discard(second, discarded) == ["unknown_dead_letter"]
    assert everything(client) == before


@pytest.mark.parametrize("method, path", [
    ("POST", "/9:1-1/retry"), ("DELETE", "/9999:1-1"), ("DELETE", "/x"), ("DELETE", "/1-1"),
])
def test_what_is_no_dead_letter_is_404(admin, method, path):
    assert admin(method, path).status_code == 404


@pytest.mark.parametrize("query", ["limit=0", "after=1-1", "after=x", "other=1"])
def test_bad_query_is_422(admin, query):
    assert admin("GET", f"?{query}").status_code == 422


def test_dead_letters_of_all_partitions_are_listed(client):
    partitions = partitions_on(client, partitions=4)
    for installation in partitions:
        for number in range(3):
            client.xadd(installation.keys.dead, {
                "entryId": f"{number}-1", "reason": "r", "fields": "{}",
            }, id=f"{number + 1}-0")
    listed, after = [], ""
    while True:
        page, after = DeadLetters(partitions).page(2, after)
        listed += [each["deadLetter"] for each in page]
        if not after:
            break
    assert listed == [f"{p}:{number}-0" for p in range(4) for number in (1, 2, 3)]


def test_command_line_lists_retries_and_discards(shared_server, real_client, monkeypatch):
    monkeypatch.setenv("REDIS_URL", shared_server.url)
    for number in range(2):
        real_client.xadd(KEYS.dead, {
            "entryId": f"{number}-1", "reason": "userId is missing", "fields": '{"x": "y"}',
        }, id=f"{number + 1}-0")

    def run(*arguments):
        result = CliRunner().invoke(command, ["dead", *arguments])
        return result.exit_code, result.output

    assert run("list") == (0, "".join(
        f'{P}:{number}-0  userId is missing  {{"x": "y"}}\n' for number in (1, 2)
    ))
    assert run("retry", f"{P}:1-0") == (
        1, f"Error: not_pending: the request of {P}:1-0 is pending no more\n",
    )
    assert run("discard", f"{P}:1-0")[0] == 0
    assert [each["entryId"] for each in json.loads(run("list", "--json")[1])] == ["1-1"]
    assert run("discard", "x")[0] == 2
