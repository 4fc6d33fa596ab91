"""GET /metrics: what is read from Redis. tests/test_http_counters.py has the HTTP answers."""

import time
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

import pytest
from redis.exceptions import ConnectionError

from coupon_service.admin import coupon_totals, decision_times
from coupon_service.connection import connect
from coupon_service.errors import CouponError
from coupon_service.installation import Installation
from coupon_service.keys import Keys
from coupon_service.ledger.copier import Copier, group_of
from coupon_service.scripts import Registration
from coupon_service.snapshot import REFUSALS
from coupon_service.web.app import create_app
from tests.exposition import Samples
from tests.processes import HOST, free_port, tool
from tests.sinks import open_sink
from tests.state import (
    KEYS,
    PARTITIONS,
    config_with,
    coupons_on,
    decided,
    drain,
    installation_on,
    operations_on,
    worker_on,
)

COUNTERS = ("quantity", "stock", "issued", "pending")
PER_PARTITION = ("coupon_backlog_entries", "coupon_backlog_oldest_seconds", "coupon_dead_letters",
                 "coupon_worker_consumers", "coupon_decision_seconds_count")


def scrape(client, **settings):
    return samples_of(create_app(config_with(**settings), client))


def samples_of(app):
    answer = app.test_client().get("/metrics")
    assert answer.status_code == 200, answer.text
    return Samples(answer.text)


def ask(coupons, coupon_id, *users):
    for user in users:
        with suppress(CouponError):
            coupons.request(coupon_id, user, f"r-{user}")


def sale(client):
    """Two coupons with something of everything: issued, refused and pending."""
    coupons = coupons_on(client)
    coupons.register(Registration("A", 3), Registration("B", 9, {"opensAt": 4_000_000_000_000}))
    ask(coupons, "A", "u1", "u2")
    drain(client, worker_on(client))
    ask(coupons, "A", "u3", "u4", "u5")
    coupons_on(client).request("A", "u1", "r-u1")
    with suppress(CouponError):
        coupons.request("A", "u1", "another")
    ask(coupons, "B", "u1")


def test_counters_of_each_coupon_are_those_of_its_snapshot(client):
    sale(client)
    samples, coupons = scrape(client), coupons_on(client)
    for coupon_id in ("A", "B"):
        snapshot = coupons.snapshot(coupon_id)
        for name in COUNTERS:
            assert samples.all(f"coupon_{name}", coupon_id=coupon_id) == [snapshot[name]]
        for reason in REFUSALS:
            assert samples.all(
                "coupon_refusals_total", coupon_id=coupon_id, reason=reason
            ) == [snapshot["refusals"][reason]]
    assert samples.sum("coupon_refusals_total") == 4
    assert samples.all("coupon_registered") == [2]
    assert samples.sum("coupon_backlog_entries") == samples.sum("coupon_pending") == 1


def test_the_active_coupons_have_their_own_series_and_the_others_are_added_up(client):
    coupons = coupons_on(client)
    ids = ["A", "B", "C", "D", "E"]
    coupons.register(*(Registration(each, number) for number, each in enumerate(ids, start=1)))
    for coupon_id in ("A", "D", "B"):
        ask(coupons, coupon_id, "u1", "u2")
        drain(client, worker_on(client))
        # The ids of later lines are greater, as they are when a millisecond has passed.
        last = client.xrevrange(KEYS.of(coupon_id).log, count=1)[0][0]
        for keys in KEYS.all:
            client.xadd(keys.log, {"decision": "none"}, id=f"{int(last.split('-')[0]) + 1}-0")
    samples = scrape(client, metrics_coupons=2)
    assert samples.labels("coupon_issued", "coupon_id") == {"B", "D", ""}
    assert samples.all("coupon_issued", coupon_id="") == [1]
    assert samples.all("coupon_quantity", coupon_id="") == [1 + 3 + 5]
    assert samples.sum("coupon_issued") == 1 + 2 + 2
    assert samples.labels("coupon_refusals_total", "coupon_id") == {"B", "D"}
    assert samples.all("coupon_other_refusals", reason="sold_out") == [1]


def test_more_others_than_can_be_added_up_are_left_out(client, monkeypatch):
    monkeypatch.setattr(coupon_totals, "MAX_OTHERS", 2)
    coupons_on(client).register(*(Registration(each, 1) for each in "ABC"))
    assert scrape(client, metrics_coupons=0).all("coupon_quantity") == []
    client.delete(KEYS.coupon("C"))
    client.zrem(KEYS.of("C").coupons, "C")
    assert scrape(client, metrics_coupons=0).all("coupon_quantity", coupon_id="") == [2]


def test_deleted_coupon_has_no_series(client):
    sale(client)
    operations_on(client).delete("A")
    samples = scrape(client)
    assert samples.labels("coupon_quantity", "coupon_id") == {"B", ""}
    assert samples.all("coupon_registered") == [1]


def test_a_read_costs_the_same_commands_for_a_large_coupon(real_client):
    coupons = coupons_on(real_client)
    coupons.register(Registration("A", 10_000))
    costs = []
    for users in (range(10), range(10, 500)):
        ask(coupons, "A", *(f"u{number}" for number in users))
        drain(real_client, worker_on(real_client))
        app = create_app(config_with(), real_client)
        samples_of(app)  # counts the new lines of the log
        before = real_client.info("stats")["total_commands_processed"]
        samples_of(app)
        costs.append(real_client.info("stats")["total_commands_processed"] - before)
    assert costs[0] == costs[1]


def test_what_is_not_registered_takes_no_place_of_an_active_coupon(client):
    coupons_on(client).register(*(Registration(each, 1) for each in "ABC"))
    ask(coupons_on(client), "A", "u")
    drain(client, worker_on(client))
    for keys in KEYS.all:
        client.xadd(keys.log, {"couponId": "GONE"}, id="99999999999999-0")
    assert scrape(client, metrics_coupons=1).labels("coupon_issued", "coupon_id") == {"A", ""}


def test_corrupt_coupon_has_no_series_and_harms_no_other(client):
    sale(client)
    client.set(KEYS.stock("A"), "x")
    samples = scrape(client)
    assert samples.labels("coupon_quantity", "coupon_id") == {"B", ""}
    assert samples.all("coupon_redis_up") == [1] * PARTITIONS


@pytest.mark.parametrize("stream, missing, up", [
    ("dead", "coupon_dead_letters", 1), ("log", "coupon_decision_seconds_count", 1),
    ("decision_times", "coupon_decision_seconds_count", 1),
    ("requests", "coupon_backlog_entries", 0), ("coupons", "coupon_quantity", 1),
])
def test_corrupt_key_takes_away_its_own_series_alone(client, stream, missing, up):
    keys = KEYS.of("A")
    client.delete(getattr(keys, stream))
    client.set(getattr(keys, stream), "x")
    samples, number = scrape(client), str(KEYS.all.index(keys))
    assert samples.all("coupon_redis_up", partition=number) == [up]
    assert samples.all(missing, partition=number) == [] or stream == "log"
    assert len(samples.all("coupon_redis_up")) == PARTITIONS


def test_backlog_dead_letters_and_workers(client):
    coupons = coupons_on(client)
    coupons.register(Registration("A", 10))
    client.xadd(KEYS.requests, {"couponId": "A"})
    drain(client, worker_on(client))
    ask(coupons, "A", "u1", "u2")
    partition = {"partition": str(KEYS.all.index(KEYS.of("A")))}
    samples = scrape(client)
    assert samples.all("coupon_backlog_entries", **partition) == [2]
    assert samples.all("coupon_dead_letters", **partition) == [1]
    assert samples.all("coupon_worker_consumers", **partition) == [1]
    assert 0 <= samples.all("coupon_backlog_oldest_seconds", **partition)[0] < 5
    assert samples.all("coupon_build_info", version="0.2.0") == [1]


def test_ledger_tells_its_lag_and_its_failure(client, tmp_path):
    installation = installation_on(client)
    client.xadd(KEYS.of("A").log, {"couponId": "A"}, id="1000-0")
    (tmp_path / "ledger").write_text("in the way")
    sink = open_sink(f"file:{tmp_path}/ledger")
    copier = Copier(installation, sink)
    copier.try_step()
    labels = {"sink": sink.name, "partition": str(installation.partition)}
    samples = scrape(client)
    assert samples.all("coupon_ledger_failing", **labels, kind="failed") == [1]
    assert samples.all("coupon_ledger_failing", **labels, kind="gone_back") == [0]
    assert samples.all("coupon_ledger_lag_seconds", **labels)[0] > 10**9
    (tmp_path / "ledger").unlink()
    copier.try_step()
    samples = scrape(client)
    assert samples.all("coupon_ledger_failing", **labels) == [0, 0]
    assert samples.all("coupon_ledger_lag_seconds", **labels) == [0]


@pytest.mark.parametrize("noted", ["[]", "{"])
def test_error_of_a_sink_that_is_none_is_left_out(client, noted):
    keys = installation_on(client).keys
    client.xgroup_create(keys.log, group_of("file:/x"), id="0", mkstream=True)
    client.hset(keys.ledger, "error:file:/x", noted)
    assert not scrape(client).all("coupon_ledger_failing")


def test_oldest_entry_tells_its_age(client):
    client.xadd(KEYS.requests, {"couponId": "A", "userId": "u"}, id="1000-0")
    [age] = scrape(client).all("coupon_backlog_oldest_seconds",
                               partition=str(KEYS.all.index(KEYS.of("A"))))
    assert age > 1_000_000_000


def test_decisions_are_counted_once_whichever_process_is_asked(client):
    coupons = coupons_on(client)
    coupons.register(Registration("A", 5))
    processes = [create_app(config_with(), client) for _ in range(2)]
    for turn in range(4):
        ask(coupons, "A", f"{turn}-1", f"{turn}-2")
        expected = len(decided(client))
        for app in processes:
            assert samples_of(app).sum("coupon_decision_seconds_count") == expected
        drain(client, worker_on(client))
    operations_on(client).cancel("A", "0-1")  # a line that is no decision
    samples = samples_of(processes[0])
    assert samples.sum("coupon_decision_seconds_count") == 5
    assert samples.sum("coupon_decision_seconds_bucket", le="+Inf") == 5
    assert 0 <= samples.sum("coupon_decision_seconds_sum") < 60


def test_lines_that_name_no_entry_end_no_counting(client):
    log = KEYS.of("A").log
    client.xadd(log, {"decision": "issued"})
    client.xadd(log, {"decision": "unknown_coupon", "entryId": ""})
    client.xadd(log, {"decision": "issued", "entryId": f"{time.time_ns() // 10**6}-0"})
    assert scrape(client).sum("coupon_decision_seconds_count") == 1
    client.delete(log)
    client.xadd(log, {"decision": "issued", "entryId": "1-0"}, id="2-0")
    assert scrape(client).sum("coupon_decision_seconds_count") == 1


def test_time_to_a_decision_is_that_from_the_entry_to_the_line(client):
    log = KEYS.of("A").log
    for ms, took in ((1000, 5), (2000, 6), (3000, 400_000_000), (4000, -7)):
        entry = {"decision": "issued", "entryId": f"{max(0, 10**9 + ms - took)}-0"}
        client.xadd(log, entry, id=f"{10**9 + ms}-0")
    samples = scrape(client)

    def up_to(bound):
        return samples.sum("coupon_decision_seconds_bucket", le=bound)

    assert [up_to(bound) for bound in ("0.005", "0.01", "300.0", "+Inf")] == [2, 3, 3, 4]
    assert samples.sum("coupon_decision_seconds_sum") == 400_000.011


def test_scrapes_at_the_same_time_count_no_decision_twice(real_client):
    coupons = coupons_on(real_client)
    coupons.register(Registration("A", 1000))
    apps = [create_app(config_with(), real_client) for _ in range(8)]
    with ThreadPoolExecutor(8) as pool:
        for turn in range(5):
            ask(coupons, "A", *(f"{turn}-{number}" for number in range(50)))
            drain(real_client, worker_on(real_client))
            list(pool.map(samples_of, apps))
            [seen] = {samples_of(app).sum("coupon_decision_seconds_count") for app in apps}
            assert seen == 50 * (turn + 1)


def test_after_a_rush_a_sample_of_the_decisions_is_counted(client, monkeypatch):
    monkeypatch.setattr(decision_times, "PARTS", 4)
    monkeypatch.setattr(decision_times, "LINES", 10)
    log = KEYS.of("A").log
    for number in range(400):
        client.xadd(log, {"decision": "issued", "entryId": f"{1000 + number}-0"},
                    id=f"{1000 + number}-0")
    assert scrape(client).sum("coupon_decision_seconds_count") == 40
    client.xadd(log, {"decision": "issued", "entryId": "5000-0"}, id="5000-0")
    assert scrape(client).sum("coupon_decision_seconds_count") == 41


def test_count_that_is_none_holds_up_no_other(client):
    log, times = KEYS.of("A").log, KEYS.of("A").decision_times
    client.hset(times, "sum_ms", "010")
    for number in range(3):
        client.xadd(log, {"decision": "issued", "entryId": f"{number}000-0"}, id=f"{number}001-0")
        assert scrape(client).sum("coupon_decision_seconds_count") == number + 1


def test_log_that_begins_anew_is_counted_on(client):
    log = KEYS.of("A").log
    for line_id in ("2000-0", "1000-0"):
        client.delete(log)
        client.xadd(log, {"decision": "issued", "entryId": "1000-0"}, id=line_id)
        scrape(client)
    client.xadd(log, {"decision": "issued", "entryId": "1000-0"}, id="1500-0")
    assert scrape(client).sum("coupon_decision_seconds_count") == 2


@pytest.fixture
def four_partitions(fake_client):
    app = create_app(config_with(partitions=4), fake_client)
    app.test_client().post("/api/coupons/register", json=[
        {"couponId": f"C{number}", "quantity": 5} for number in range(20)
    ])
    return app


def fail(app, *numbers):
    """Let nothing listen where the Redis of these partitions is."""
    partitions = app.extensions["coupon_service"]
    refused = config_with(redis_url=f"redis://{HOST}:{free_port()}", partitions=4)
    for number in numbers:
        partitions._all[number] = Installation(refused, connect(refused), number)


def test_partition_that_is_down_takes_away_its_series_alone(four_partitions):
    assert samples_of(four_partitions).all("coupon_redis_up") == [1] * 4
    fail(four_partitions, 1, 3)
    samples = samples_of(four_partitions)
    assert samples.all("coupon_redis_up") == [1, 0, 1, 0]
    for name in PER_PARTITION:
        assert samples.labels(name, "partition") == {"0", "2"}
    partitions = four_partitions.extensions["coupon_service"]
    assert samples.labels("coupon_quantity", "coupon_id") - {""} == {
        each for each in (f"C{number}" for number in range(20))
        if partitions.of(each).partition in (0, 2)
    }


def test_redis_that_is_down_leaves_the_answers_of_this_process(four_partitions):
    http = four_partitions.test_client()
    before = samples_of(four_partitions)
    http.get("/nowhere")
    fail(four_partitions, 0, 1, 2, 3)
    samples = samples_of(four_partitions)
    assert samples.all("coupon_redis_up") == [0] * 4
    assert samples.all("coupon_quantity", coupon_id="") == [0]
    answered = {"route": "other", "status": "404"}
    assert samples.sum("coupon_http_requests_total", **answered) == (
        before.sum("coupon_http_requests_total", **answered) + 1
    )


def test_redis_that_goes_away_in_the_middle_of_a_read_is_no_500(client, monkeypatch):
    def gone(*_):
        raise ConnectionError("gone")

    sale(client)
    monkeypatch.setattr(Keys, "stock", gone)
    samples = scrape(client)
    assert samples.all("coupon_registered") == [2]
    assert samples.labels("coupon_quantity", "coupon_id") == {""}


@pytest.mark.parametrize("given, status", [
    ("Bearer secret", 200), ("Basic OnNlY3JldA==", 200), ("Bearer wrong", 401), (None, 401),
])
def test_token_is_needed_where_one_is_set(fake_client, given, status):
    http = create_app(config_with(admin_token="secret"), fake_client).test_client()
    answer = http.get("/metrics", headers={"Authorization": given} if given else {})
    assert answer.status_code == status
    assert (b"coupon_redis_up" in answer.data) == (status == 200)


def test_format_is_the_one_that_is_asked_for(fake_client):
    http = create_app(config_with(), fake_client).test_client()
    plain, openmetrics = http.get("/metrics"), http.get(
        "/metrics", headers={"Accept": "application/openmetrics-text;version=1.0.0"}
    )
    assert plain.content_type.startswith("text/plain; version=0.0.4")
    assert openmetrics.content_type.startswith("application/openmetrics-text")
    assert openmetrics.text.endswith("# EOF\n")


def test_without_prometheus_client_nothing_is_counted_and_metrics_are_501(
    fake_client, monkeypatch
):
    monkeypatch.setitem(sys.modules, "prometheus_client", None)
    app = create_app(config_with(), fake_client)
    answer = app.test_client().get("/metrics")
    assert (answer.status_code, answer.json["code"]) == (501, "metrics_not_installed")
    assert answer.mimetype == "application/problem+json"
    assert app.http_counters is None


def test_promtool_finds_nothing_wrong(fake_client):
    promtool = tool("promtool")
    sale(fake_client)
    http = create_app(config_with(), fake_client).test_client()
    http.get("/metrics")
    checked = subprocess.run(
        [promtool, "check", "metrics"], input=http.get("/metrics").text, text=True,
        capture_output=True,
    )
    assert (checked.returncode, checked.stdout + checked.stderr) == (0, "")
