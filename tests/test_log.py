"""coupon-log: what happened to a coupon, and how the log is trimmed."""

import pytest

from coupon_service.scripts import Registration
from tests.state import KEYS, log_lines, operations_on, scripts_on, worker_on


def happened(client, *names):
    """The lines of the log, without ids, each with these fields alone."""
    return [
        tuple(line[name] for name in ("decision", *names) if name in line)
        for _, line in log_lines(client)
    ]


def issued(client, coupons, worker, *users, quantity=10):
    coupons.register(Registration("A", quantity))
    for user in users:
        coupons.request("A", user, f"r-{user}")
    worker.run_once()
    worker.run_once()


def test_everything_that_happens_to_a_coupon_has_a_line(client, coupons, worker):
    coupons.register(Registration("A", 3, {"expiresAt": 9 * 10**12}))
    coupons.register(Registration("A", 3, {}))  # changes nothing
    coupons.register(Registration("A", 2, {"expiresAt": None, "closesAt": 8 * 10**12}))
    coupons.request("A", "withdrawn", "r1")
    operations = operations_on(client)
    operations.cancel("A", "withdrawn")
    coupons.request("A", "issued", "r2")
    coupons.request("A", "cancelled", "r3")
    worker.run_once()
    worker.run_once()
    operations.cancel("A", "cancelled")
    operations.close("A")
    operations.delete("A")
    assert happened(client, "userId", "quantity", "issued", "pending") == [
        ("registered", "3"),
        ("changed", "2"),
        ("withdrawn", "withdrawn"),
        ("issued", "issued"),
        ("issued", "cancelled"),
        ("cancelled", "cancelled"),
        ("closed",),
        ("deleted", "1", "0"),
    ]
    lines = [line for _, line in log_lines(client)]
    assert {line["couponId"] for line in lines} == {"A"}
    assert [line.get("expiresAt") for line in lines[:2]] == [str(9 * 10**12), None]
    assert [line.get("closesAt") for line in lines[:2]] == [None, str(8 * 10**12)]


def test_registrations_have_a_line_each(client, coupons):
    coupons.register(Registration("A", 1), Registration("B", 2))
    coupons.register(Registration("A", 1), Registration("B", 3))
    lines = [(line["decision"], line["couponId"], line["quantity"])
             for _, line in log_lines(client)]
    assert sorted(lines[:2]) == [("registered", "A", "1"), ("registered", "B", "2")]
    assert lines[2:] == [("changed", "B", "3")]


def test_coupon_that_expires_is_deleted_with_a_line(client, coupons, worker):
    issued(client, coupons, worker, "u1", "u2")
    coupons.request("A", "u3", "r-u3")
    client.zadd(KEYS.of("A").removals, {"A": 1})
    for _ in range(3):
        scripts_on(client).remove("A", client.hgetall(KEYS.pending("A")), [])
    assert happened(client, "userId", "issued", "pending")[3:] == [
        ("deleted", "2", "1"), ("unknown_coupon", "u3"),
    ]


def fill(client, count):
    """Let the log have `count` lines; return their ids."""
    log = KEYS.of("A").log
    with client.pipeline(transaction=False) as pipeline:
        for _ in range(count - client.xlen(log)):
            pipeline.xadd(log, {"couponId": "A"})
        pipeline.execute()
    return [line_id for line_id, _ in client.xrange(log)]


def test_log_is_trimmed_to_its_newest_lines(client, coupons, worker):
    issued(client, coupons, worker, "u1")
    ids = fill(client, 1300)
    coupons.request("A", "u2", "r2")
    worker = worker_on(client, log_keep=200)
    for _ in range(4):
        worker.run_once()
    log = KEYS.of("A").log
    assert (client.xlen(log), client.xrange(log, count=1)[0][0]) == (200, ids[-199])
    assert client.get(KEYS.of("A").trimmed) == ids[-200]


def test_nothing_is_trimmed_unless_that_is_asked_for(client, coupons, worker):
    issued(client, coupons, worker, "u1")
    ids = fill(client, 1300)
    worker.run_once()
    assert [line_id for line_id, _ in client.xrange(KEYS.of("A").log)] == ids


@pytest.mark.parametrize("delivered, acknowledged, oldest", [
    (0, [], "1-0"),
    (3, [], "1-0"),
    (3, ["1-0", "3-0"], "2-0"),
    (3, ["1-0", "2-0", "3-0"], "4-0"),
    (9, [f"{n}-0" for n in range(1, 10)], "9-0"),
])
def test_nothing_is_trimmed_that_a_consumer_group_needs(
    client, delivered, acknowledged, oldest
):
    log = KEYS.of("A").log
    for number in range(1, 10):
        client.xadd(log, {"couponId": "A"}, id=f"{number}-0")
    client.xgroup_create(log, "done", "9-0")
    client.xgroup_create(log, "mailer", "0")
    if delivered:
        client.xreadgroup("mailer", "one", {log: ">"}, count=delivered)
    for line in acknowledged:
        client.xack(log, "mailer", line)
    scripts_on(client).trim(1)
    assert client.xrange(log, count=1)[0][0] == oldest
