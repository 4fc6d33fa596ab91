"""What the pages of administrators poll: members, prefixes, pages, a partition or a token less."""

import pytest
from redis import Redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from coupon_service.installation import Installation
from coupon_service.keys import GROUP
from coupon_service.ledger.copier import group_of
from coupon_service.scripts import Registration
from coupon_service.web.app import create_app
from coupon_service.web.preflight import NO_TOKEN, warnings
from tests.processes import free_port
from tests.state import (
    KEYS,
    PARTITIONS,
    config_with,
    drain,
    everything,
    partitions_on,
)
from tests.system.faults import configured
from tests.test_auth import basic

USER = "<img src=x onerror=alert(1)>"
P = KEYS.all.index(KEYS.of("A"))
PATHS = ["", "/coupons/A", "/system"]


@pytest.fixture
def app(client):
    return create_app(config_with(admin_token="t"), client)


@pytest.fixture
def poll(app):
    return polling(app)


def polling(app):
    def poll(path="", token="Bearer t"):
        return app.test_client().get(f"/api/dashboard{path}", headers={"Authorization": token})

    return poll


@pytest.fixture
def sale(client, coupons, worker):
    """Coupon A of five, of which the user has one."""
    coupons.register(Registration("A", 5))
    coupons.request("A", USER, "r")
    drain(client, worker)


def ids(answer, member="coupons"):
    return [each["couponId"] for each in answer.json[member]]


def test_overview_has_the_queue_and_a_page_of_coupons_with_their_counters(
    poll, client, coupons, sale
):
    coupons.register(Registration("B", 1), Registration("C", 1))
    coupons.request("B", "u", "r")
    shown = poll("?limit=2").json
    queue = shown["queue"]
    assert (queue["backlog"], queue["workers"]) == (1, 1) and queue["oldestSeconds"] < 5
    assert shown["coupons"] == [coupons.snapshot("A"), coupons.snapshot("B")]
    assert shown["next"] == "B"
    rest = poll("?limit=2&after=B&prefix=")
    assert (ids(rest), rest.json["next"]) == (["C"], None)


def test_overview_tells_what_is_open_and_was_active_last(poll, client, coupons, worker):
    names = [f"C{number}" for number in range(7)]
    coupons.register(Registration("quiet", 9), Registration("sold", 1))
    for name in names:
        coupons.register(Registration(name, 9))
    client.delete(*(keys.log for keys in KEYS.all))
    coupons.register(Registration("closed", 9, {"closesAt": 1_000_000_000_000}))
    for name in (*names, "sold"):
        coupons.request(name, "u", "r")
        drain(client, worker)
    live = poll("?limit=1")
    assert ids(live, "live") == names[:1:-1]
    assert live.json["live"][0] == coupons.snapshot("C6")
    assert poll("?after=C1").json["live"] == poll("?prefix=C").json["live"] == []


def test_live_is_filled_with_others_that_are_open(poll, client, coupons, worker):
    for number in range(30):
        coupons.register(Registration(f"A{number:02}", 9, {"closesAt": 1_000_000_000_000}))
    coupons.register(*(Registration(f"Z{number}", 9) for number in range(9)))
    client.delete(*(keys.log for keys in KEYS.all))
    assert ids(poll(), "live") == [f"Z{number}" for number in range(5)]
    coupons.request("Z3", "u", "r")
    assert ids(poll("?limit=1"), "live") == ["Z3", "Z0", "Z1", "Z2", "Z4"]
    client.set(KEYS.stock("Z1"), "abc")
    live = poll()
    assert ids(live, "live") == ["Z3", "Z0", "Z2", "Z4", "Z5"]
    assert live.json["live"][1] == coupons.snapshot("Z0")


def test_prefix_finds_the_ids_that_begin_with_it_page_by_page(poll, coupons):
    names = ["~", ".", "-", "_", "SALE", "SALE.1", "SALE-1", "SALE~", "SALE~~", "SALF", "SAL",
             "sale", "request1", "register-"]
    coupons.register(*(Registration(name, 1) for name in names))
    for prefix in ("", "S", "SAL", "SALE", "SALE~", "~", "-", "_", "re", "request", "x", "~~"):
        expected = sorted(name for name in names if name.startswith(prefix))
        found, after = [], ""
        while True:
            page = poll(f"?limit=3&prefix={prefix}&after={after}")
            found += ids(page)
            after = page.json["next"]
            if not after:
                break
        assert found == expected, prefix
    assert ids(poll("?prefix=SALE&after=A")) == ids(poll("?prefix=SALE"))
    assert ids(poll("?prefix=SALE&after=SALF")) == []


@pytest.mark.parametrize("query", [
    "prefix=%00", "prefix=a b", "prefix=%3Cimg%3E", "prefix=%EC%BF%A0%ED%8F%B0", "prefix=*",
    "prefix=" + "x" * 65, "after=a:b", "limit=0", "limit=101", "other=1",
])
def test_what_no_id_has_is_said_at_the_field(poll, query):
    answer = poll(f"?{query}")
    assert (answer.status_code, answer.json["code"]) == (422, "invalid_request")
    assert list(answer.json["errors"]) == [query.partition("=")[0]]


def test_list_of_coupons_takes_a_prefix_too(app, coupons):
    coupons.register(Registration("A1", 1), Registration("A2", 1), Registration("B", 1))
    answer = app.test_client().get(
        "/api/coupons?prefix=A&limit=1", headers={"Authorization": "Bearer t"}
    )
    assert (ids(answer), answer.headers["Link"]) == (
        ["A1"], '<?prefix=A&limit=1&after=A1>; rel="next"',
    )


def test_coupon_is_shown_with_its_statistics_series_and_issuances(app, poll, sale):
    shown = poll("/coupons/A").json
    http, token = app.test_client(), {"Authorization": "Bearer t"}
    assert shown["coupon"] == http.get("/api/coupons/A/statistics", headers=token).json
    assert set(shown["coupon"]["recent"]["secondsToDecision"]) == {"p50", "p99", "max"}
    assert shown["series"]["spanSeconds"] == 1
    assert sum(each["issued"] for each in shown["series"]["counts"]) == 1
    assert shown["series"]["counts"][-1]["stock"] == 4
    assert [each["userId"] for each in shown["issuances"]] == [USER]
    assert shown["queue"]["backlog"] == 0


@pytest.mark.parametrize("corrupt", [
    lambda client, key: client.set(key, "no hash"),
    lambda client, key: client.hset(key, "1:0", "rubbish"),
], ids=["another type", "rubbish"])
def test_series_that_cannot_be_read_is_null_and_the_rest_is_shown(poll, client, sale, corrupt):
    client.delete(KEYS.series("A"))
    corrupt(client, KEYS.series("A"))
    answer = poll("/coupons/A")
    assert answer.status_code == 200
    assert (answer.json["series"], answer.json["coupon"]["issued"]) == (None, 1)
    assert [each["userId"] for each in answer.json["issuances"]] == [USER]


def test_newest_issuances_are_no_more_than_a_few(poll, client, coupons, worker):
    coupons.register(Registration("A", 50))
    for number in range(30):
        coupons.request("A", f"u{number}", "r")
    drain(client, worker)
    assert [each["userId"] for each in poll("/coupons/A").json["issuances"]] == [
        f"u{number}" for number in range(29, 9, -1)
    ]


def test_unknown_coupon_is_a_problem(poll, sale):
    answer = poll("/coupons/B")
    assert (answer.status_code, answer.json["code"]) == (404, "unknown_coupon")
    assert answer.mimetype == "application/problem+json"


def test_system_shows_partitions_workers_dead_letters_and_decision_times(
    poll, client, coupons, worker, sale
):
    client.xadd(KEYS.requests, {"couponId": "A"})
    drain(client, worker)
    shown = poll("/system").json
    assert [each["partition"] for each in shown["partitions"]] == list(range(PARTITIONS))
    [name] = [each["name"] for each in client.xinfo_consumers(KEYS.requests, GROUP)]
    assert shown["partitions"][P] == {
        "partition": P, "usable": True, "backlog": 0, "oldestSeconds": 0, "workers": [name],
        "deadLetters": 1,
    }
    [dead] = shown["deadLetters"]
    assert (dead["fields"], shown["next"]) == ({"couponId": "A"}, None)
    assert shown["queue"]["backlog"] == 0
    assert 0 <= shown["decisionTimes"]["p50"] <= shown["decisionTimes"]["p99"] < 5
    assert shown["ledger"] == []


def test_system_shows_a_page_of_dead_letters_and_where_the_next_begins(app, poll, client, worker):
    for _ in range(21):
        client.xadd(KEYS.requests, {"couponId": "A"})
    drain(client, worker)
    shown = poll("/system").json
    assert len(shown["deadLetters"]) == 20
    rest = app.test_client().get(
        f"/api/dead-letters?after={shown['next']}", headers={"Authorization": "Bearer t"}
    ).json["deadLetters"]
    assert len(rest) == 1


def test_system_shows_a_dead_letter_that_is_broken_beside_the_others(poll, client):
    client.xadd(KEYS.dead, {"x": "y"})
    client.xadd(KEYS.dead, {"entryId": "1-1", "reason": "r", "fields": "{}"})
    assert [each["reason"] for each in poll("/system").json["deadLetters"]] == ["corrupt_data", "r"]


def test_system_shows_how_far_the_ledger_is_copied(poll, client, sale):
    newest = client.xrevrange(KEYS.log, count=1)[0][0]
    client.xgroup_create(KEYS.log, group_of("sink"), id=newest)
    client.hset(KEYS.ledger, "error:sink", '{"kind": "failed", "error": "disk full"}')
    assert poll("/system").json["ledger"] == [{
        "sink": "sink", "partition": P, "cursor": newest, "lagSeconds": 0, "kind": "failed",
        "error": "disk full",
    }]


def test_system_says_what_the_preflight_warns_of_and_writes_nothing(real_client, shared_server):
    poll = polling(create_app(config_with(admin_token="t"), real_client))
    before = real_client.dbsize()
    with configured(shared_server, maxmemory_policy="allkeys-lru"):
        said = poll("/system").json
    assert real_client.dbsize() == before
    assert any("maxmemory-policy noeviction" in each for each in said["warnings"])
    assert len(said["warnings"]) == len(set(said["warnings"]))


def test_warnings_name_a_missing_token_and_data_of_a_later_version(real_client):
    assert NO_TOKEN in warnings(partitions_on(real_client))
    assert NO_TOKEN not in warnings(partitions_on(real_client, admin_token="t"))
    real_client.set(KEYS.format, 99)
    assert any("format 99" in each for each in warnings(partitions_on(real_client)))


def test_nothing_at_all_is_shown_as_nothing(poll):
    shown = poll("/system").json
    assert (shown["deadLetters"], shown["ledger"], shown["decisionTimes"]) == ([], [], None)
    assert poll().json["coupons"] == poll().json["live"] == []


@pytest.fixture
def gone():
    return Redis(port=free_port(), retry=Retry(NoBackoff(), 0))


def test_partition_that_is_down_does_not_fail_the_rest(fake_client, gone):
    config = config_with(partitions=3, admin_token="t")
    app = create_app(config, fake_client)
    partitions, poll = app.extensions["coupon_service"], polling(app)
    names = [f"C{number}" for number in range(9)]
    partitions.register(*(Registration(name, 2) for name in names))
    client_keys = {each.partition: each.keys for each in partitions}
    for number in (0, 2):
        fake_client.xadd(client_keys[number].dead, {
            "entryId": "1-1", "reason": "x", "fields": "{}",
        })
    partitions._all[2] = Installation(config, gone, 2)
    there = [name for name in names if partitions.of(name).partition != 2]
    shown = poll()
    assert (ids(shown), shown.json["missingPartitions"]) == (there, [2])
    assert shown.json["queue"]["missingPartitions"] == [2]
    assert set(ids(shown, "live")) <= set(there)
    assert ids(poll("?prefix=C")) == there
    system = poll("/system").json
    assert system["partitions"][2] == {
        "partition": 2, "usable": False, "backlog": None, "oldestSeconds": None, "workers": None,
        "deadLetters": None,
    }
    assert [each["deadLetter"][0] for each in system["deadLetters"]] == ["0"]
    assert poll(f"/coupons/{there[0]}").status_code == 200
    missing = next(name for name in names if name not in there)
    assert poll(f"/coupons/{missing}").status_code == 503


@pytest.mark.parametrize("path", PATHS)
def test_outage_is_503_with_retry_after(gone, path):
    answer = polling(create_app(config_with(admin_token="t"), gone))(path)
    assert (answer.status_code, answer.json["code"]) == (503, "unavailable")
    assert answer.headers["Retry-After"] == "1"


@pytest.mark.parametrize("path", PATHS)
def test_password_is_taken_and_a_wrong_one_makes_no_browser_ask(app, poll, coupons, path):
    coupons.register(Registration("A", 1))
    assert poll(path, basic("t")).status_code == 200
    for given in ("", "Bearer old", basic("old")):
        answer = poll(path, given)
        assert (answer.status_code, answer.json["code"]) == (401, "unauthorized")
        assert answer.headers.get_all("WWW-Authenticate") == ['Bearer realm="admin"']
    others = app.test_client().get("/api/coupons")
    assert "Basic" in others.headers["WWW-Authenticate"]


def test_polls_write_nothing(poll, client, sale):
    before = everything(client)
    for path in PATHS:
        assert poll(path).status_code == 200
    assert everything(client) == before
