"""What differs between the ledger and Redis is named, and nothing else."""

import pytest

from coupon_service.ledger.verify import differences, queryable
from coupon_service.scripts import Registration
from tests.ledger.copying import a_life, add_lines, copy, found_by_verify, lost_of
from tests.sinks import lines_of, open_sink
from tests.state import KEYS, drain, log_lines, operations_on


def foreign_issuance(client, keys):
    [(log_id, fields)] = client.xrange(keys.issuances("A"))
    client.delete(keys.issuances("A"))
    client.xadd(keys.issuances("A"), {"userId": "x"}, id=client.xrange(keys.log)[0][0])
    client.xadd(keys.issuances("A"), fields, id=log_id)


@pytest.mark.parametrize("damage, texts", [
    (lambda data, keys: data.delete(keys.user("A", "u1"), keys.issuances("A")),
     ["A: 'u1' holds it in the ledger alone, by line L1"]),
    (lambda data, keys: foreign_issuance(data, keys),
     ["A: 'x' holds it in redis alone, by line L0"]),
    (lambda data, keys: data.hset(keys.coupon("A"), "quantity", 7),
     ["A: quantity is 3 in the ledger, and 7 in redis"]),
    (lambda data, keys: data.delete(keys.coupon("A")),
     ["A: quantity is 3 in the ledger, and none in redis",
      "A: 'u1' holds it in the ledger alone, by line L1"]),
    (lambda data, keys: data.xdel(keys.log, data.xrange(keys.log)[0][0]),
     ["line L0 is in the ledger alone"]),
], ids=["mark", "issuance", "quantity", "coupon", "line"])
def test_each_difference_is_named(
    client, coupons, worker, installation, make_sink, damage, texts
):
    coupons.register(Registration("A", 3))
    coupons.request("A", "u1", "r1")
    coupons.request("A", "u2", "r2")
    drain(client, worker)
    operations_on(client).cancel("A", "u2")
    sink = make_sink()
    copy(installation, sink)
    ids = [line.log_id for line in lines_of(sink, installation.partition)]
    partitions = range(installation.partition + 1)
    with queryable(sink, partitions) as (table, _):
        assert list(differences(installation, table)) == []
        damage(client, KEYS.of("A"))
        found = list(differences(installation, table))
    for number, log_id in enumerate(ids):
        found = [text.replace(log_id, f"L{number}") for text in found]
    assert found == texts


def test_deleted_and_registered_again_is_no_difference(
    client, coupons, worker, installation, make_sink
):
    a_life(client, coupons, worker)
    operations_on(client).delete("A")
    coupons.register(Registration("A", 1))
    coupons.request("A", "u9", "r9")
    drain(client, worker)
    sink = make_sink()
    copy(installation, sink)
    with queryable(sink, range(installation.partition + 1)) as (table, _):
        assert list(differences(installation, table)) == []
        holders = table.holders(installation.partition, "A", lost_of(table))
        assert [user for _, user in holders] == ["u9"]


def test_lines_that_are_twice_or_out_of_order_are_found(client, installation, tmp_path):
    add_lines(client, "1-0", "2-0")
    sink = open_sink(f"file:{tmp_path}")
    copy(installation, sink)
    sink.close()
    [path] = tmp_path.glob("*.jsonl")
    path.write_bytes(path.read_bytes() * 2)
    assert found_by_verify(installation, sink) == ["line 1-0 comes after 2-0"]


def test_coupon_that_version_0_1_ended_is_no_difference(
    client, coupons, worker, installation, make_sink
):
    coupons.register(Registration("A", 3))
    coupons.request("A", "u1", "r1")
    drain(client, worker)
    for log_id, line in log_lines(client):  # which wrote no such lines
        if line["decision"] != "issued":
            client.xdel(KEYS.of("A").log, log_id)
    sink = make_sink()
    copy(installation, sink)
    client.delete(*client.scan_iter(KEYS.coupon("A") + "*"))
    assert found_by_verify(installation, sink) == []
    coupons.register(Registration("A", 3, {}))
    client.xadd(KEYS.of("A").log, {"couponId": "A:stock"})
    copy(installation, sink)
    assert found_by_verify(installation, sink) == []
