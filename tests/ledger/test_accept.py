"""Redis has lost lines that the ledger has: an alarm, until the loss is accepted."""

import pytest

from coupon_service.ledger.accept import accept, lost_lines
from coupon_service.ledger.copier import Copier
from coupon_service.ledger.errors import Busy, SinkError
from coupon_service.ledger.status import statuses
from coupon_service.ledger.verify import differences, queryable
from coupon_service.scripts import Registration
from tests.ledger.copying import add_lines, copy, found_by_verify, lost_of
from tests.sinks import lines_of, open_sink
from tests.state import KEYS, coupons_on, drain, installation_on, operations_on, worker_on


def test_redis_that_has_gone_back_is_an_alarm_until_it_is_accepted(real_client, make_sink):
    client, installation = real_client, installation_on(real_client)
    coupons_on(real_client).register(Registration("A", 3))
    for user in ("u1", "u2"):
        coupons_on(real_client).request("A", user, f"r-{user}")
    drain(client, worker_on(real_client))
    saved = {key: client.dump(key) for key in client.scan_iter()}
    coupons_on(real_client).request("A", "u3", "r-u3")
    drain(client, worker_on(real_client))
    sink = make_sink()
    copy(installation, sink)
    copied = lines_of(sink, installation.partition)
    # A failover to a replica that did not have the last decision.
    client.flushall()
    for key, dumped in saved.items():
        client.restore(key, 0, dumped)
    coupons_on(real_client).request("A", "u4", "r-u4")
    drain(client, worker_on(real_client))

    copier = Copier(installation, sink)
    for _ in range(2):
        assert copier.try_step() is None
    [status] = statuses(installation)
    assert status.kind == "gone_back" and copied[-1].log_id in status.error
    assert lines_of(sink, installation.partition) == copied

    lost = lost_lines(installation, sink)
    assert [(line.user_id, line.decision) for line in lost] == [("u3", "issued")]
    accept(installation, sink, lost)
    assert copier.try_step() == 1
    assert [each.kind for each in statuses(installation)] == [""]
    assert [line.decision for line in lines_of(sink, installation.partition)[-2:]] == [
        "gone_back", "issued",
    ]
    with queryable(sink, range(installation.partition + 1)) as (table, _):
        assert list(differences(installation, table)) == []
        holders = [user for _, user in table.holders(installation.partition, "A", lost_of(table))]
    assert holders == ["u1", "u2", "u4"]


def test_redis_that_has_lost_everything_is_an_alarm_until_it_is_accepted(real_client, make_sink):
    installation = installation_on(real_client)
    coupons_on(real_client).register(Registration("A", 3))
    sink = make_sink()
    copy(installation, sink)
    real_client.flushall()
    copier = Copier(installation, sink)
    assert copier.try_step() is None
    lost = lost_lines(installation, sink)
    assert [line.decision for line in lost] == ["registered"]
    accept(installation, sink, lost)
    coupons_on(real_client).register(Registration("A", 4))
    assert copier.try_step() == 1
    with queryable(sink, range(installation.partition + 1)) as (table, _):
        assert list(differences(installation, table)) == []
        assert table.quantity(installation.partition, "A", lost_of(table)) == 4


def test_clock_that_went_back_needs_a_new_ledger(real_client, make_sink):
    """Redis has lost lines, and has others between those."""
    installation = installation_on(real_client)
    add_lines(real_client, "1-0", "5-0", "9-0")
    sink = make_sink()
    copy(installation, sink)
    real_client.delete(KEYS.of("A").log)
    add_lines(real_client, "1-0", "7-0")
    with pytest.raises(SinkError, match="start a new ledger"):
        lost_lines(installation, sink)


def test_lost_cancellation_leaves_its_issuance(real_client, make_sink):
    client, installation = real_client, installation_on(real_client)
    coupons_on(real_client).register(Registration("A", 3))
    coupons_on(real_client).request("A", "u1", "r1")
    drain(client, worker_on(real_client))
    saved = {key: client.dump(key) for key in client.scan_iter()}
    operations_on(client).cancel("A", "u1")
    sink = make_sink()
    copy(installation, sink)
    client.flushall()
    for key, dumped in saved.items():
        client.restore(key, 0, dumped)
    accept(installation, sink, lost_lines(installation, sink))
    assert lost_lines(installation, sink) == []
    coupons_on(real_client).register(Registration("A", 4))
    copy(installation, sink)
    assert found_by_verify(installation, sink) == []


@pytest.fixture
def a_loss(real_client, tmp_path):
    """A file that has two lines of which Redis has none, and who writes it."""
    installation, writer = installation_on(real_client), open_sink(f"file:{tmp_path}")
    add_lines(real_client, "1-0", "2-0")
    copy(installation, writer)
    real_client.flushall()
    return installation, writer, tmp_path


def test_loss_is_accepted_by_nobody_beside_the_writer(a_loss):
    installation, _, folder = a_loss
    other = open_sink(f"file:{folder}")
    with pytest.raises(Busy):
        accept(installation, other, lost_lines(installation, other))
    assert len(lines_of(other, installation.partition)) == 2


def test_torn_line_is_cut_off_before_a_loss_is_accepted(a_loss):
    installation, writer, folder = a_loss
    writer.close()
    [path] = folder.glob("*.jsonl")
    with path.open("a") as file:
        file.write('{"partition"')
    accept(installation, writer, lost_lines(installation, writer))
    lines = lines_of(writer, installation.partition)
    assert [line.decision for line in lines] == ["x", "x", "gone_back"]


def test_torn_line_is_cut_off_when_that_has_failed_before(a_loss, monkeypatch):
    installation, writer, folder = a_loss
    writer.close()
    [path] = folder.glob("*.jsonl")
    whole = path.read_bytes()
    path.write_bytes(whole + b"torn")

    def fail(*_):
        raise OSError("no disk")

    with monkeypatch.context() as patch:
        patch.setattr("coupon_service.ledger.file._last_line", fail)
        with pytest.raises(SinkError):
            writer.open(installation.partition)
    writer.open(installation.partition)
    assert path.read_bytes() == whole
