"""The ledger has each line of the log once, in order, wherever copying stops."""

from functools import partial

import pytest
from redis.exceptions import ConnectionError

from coupon_service.ledger import copier as copying
from coupon_service.ledger.copier import Copier
from coupon_service.ledger.errors import GoneBack, SinkError
from coupon_service.ledger.file import FileSink
from coupon_service.ledger.status import forget, statuses
from tests.ledger.copying import a_life, add_lines, copy, logged
from tests.sinks import lines_of
from tests.state import KEYS, log_lines, scripts_on


def test_each_line_is_there_once_and_has_everything(
    client, coupons, worker, installation, make_sink
):
    a_life(client, coupons, worker)
    for _ in range(2):
        copy(installation, make_sink())
    copied = lines_of(make_sink(), installation.partition)
    assert copied == logged(installation)
    registered, issued, *_ = copied
    assert (registered.decision, registered.quantity, registered.closes_at) == (
        "registered", 2, 8 * 10**12
    )
    assert (issued.user_id, issued.request_id, issued.quantity) == ("u1", "r-u1", None)
    assert issued.entry_id and copied[-1].entry_id == issued.log_id


@pytest.mark.parametrize("size", [1, 2, 3])
def test_copying_goes_on_where_any_process_has_stopped(
    client, installation, make_sink, monkeypatch, size
):
    monkeypatch.setattr(copying, "BATCH", size)
    add_lines(client, *(f"{number}-{number % 2}" for number in range(1, 8)))
    while Copier(installation, make_sink()).step():
        pass
    assert lines_of(make_sink(), installation.partition) == logged(installation)


def test_two_at_once_write_no_line_twice(client, installation, make_sink, monkeypatch):
    monkeypatch.setattr(copying, "BATCH", 2)
    one, other = Copier(installation, make_sink()), Copier(installation, make_sink())
    for first in range(1, 9, 2):
        add_lines(client, f"{first}-0", f"{first + 1}-0")
        one.try_step()
        other.try_step()
    assert lines_of(make_sink(), installation.partition) == logged(installation)


@pytest.mark.parametrize("decision", ["a\x00b", b"\xff", "x" * 5000, ""])
def test_no_line_stops_the_ledger(client, installation, make_sink, decision):
    client.xadd(KEYS.of("A").log, {"couponId": "A", "userId": decision, "quantity": "1e9"})
    client.xadd(KEYS.of("A").log, {"other": "fields", "opensAt": "9" * 30})
    copy(installation, make_sink())
    assert len(lines_of(make_sink(), installation.partition)) == 2


def test_sink_that_fails_is_told_in_the_status_until_it_works(client, installation, tmp_path):
    add_lines(client, "1-0")
    (tmp_path / "file").write_text("in the way")
    sink = FileSink(tmp_path / "file", 1)
    copier = Copier(installation, sink)
    assert copier.try_step() is None
    [status] = statuses(installation)
    assert (status.kind, status.cursor) == ("failed", "0-0")
    assert "file" in status.error and status.lag > 10**9
    (tmp_path / "file").unlink()
    assert copier.try_step() == 1
    assert list(statuses(installation)) == [
        (sink.name, installation.partition, "1-0", 0, "", "")
    ]


def test_nothing_is_trimmed_that_a_sink_does_not_have(client, installation, tmp_path):
    slow, fast = FileSink(tmp_path / "slow", 1), FileSink(tmp_path / "fast", 1)
    Copier(installation, slow).step()
    add_lines(client, "1-0", "2-0", "3-0")
    copy(installation, fast)
    trim = partial(scripts_on(client).trim, 1)
    trim()
    assert client.xlen(KEYS.of("A").log) == 3
    copy(installation, slow)
    trim()
    assert [line[0] for line in log_lines(client)] == ["3-0"]
    for sink in (slow, fast):
        copy(installation, sink)  # its last line is there, or was trimmed
    add_lines(client, "4-0", "5-0")
    copy(installation, fast)
    trim()
    assert client.xlen(KEYS.of("A").log) == 2
    assert forget(installation, slow.name) and not forget(installation, slow.name)
    trim()
    assert client.xlen(KEYS.of("A").log) == 1
    with pytest.raises(GoneBack, match="trimmed up to 4-0"):
        copy(installation, slow)


def test_ledger_that_begins_after_trimmed_lines_says_so(client, installation, make_sink, caplog):
    add_lines(client, "1-0", "2-0", "3-0")
    scripts_on(client).trim(1)
    copy(installation, make_sink())
    assert "trimmed=2-0" in caplog.text and "begins after" in caplog.text
    caplog.clear()
    scripts_on(client).trim(1)
    copy(installation, make_sink())
    assert "begins after" not in caplog.text


def test_report_that_is_lost_is_made_again(client, installation, make_sink, monkeypatch):
    add_lines(client, "1-0")
    copier = Copier(installation, make_sink())
    copier.step()
    add_lines(client, "2-0")

    def fail(*_):
        raise ConnectionError("lost")

    with monkeypatch.context() as patch:
        patch.setattr(copier, "_report", fail)
        assert copier.try_step() is None
    assert copier.try_step() == 0
    assert [each.cursor for each in statuses(installation)] == ["2-0"]
    assert lines_of(make_sink(), installation.partition) == logged(installation)


def test_log_that_gives_the_same_ids_again_is_an_alarm(client, installation, make_sink):
    """The clock of the new primary is behind, so that ids go on from the last one."""
    add_lines(client, "1-0", "1-1")
    copier = Copier(installation, make_sink())
    assert copier.try_step() == 2
    log = KEYS.of("A").log
    client.delete(log)
    add_lines(client, "1-0")
    client.xadd(log, {"couponId": "A", "decision": "another"}, id="1-1")
    client.xadd(log, {"couponId": "A", "decision": "more"}, id="1-2")
    assert copier.try_step() is None
    client.delete(KEYS.of("A").ledger)
    assert copier.try_step() is None
    assert [each.kind for each in statuses(installation)] == ["gone_back"]


def test_ledger_that_turns_up_empty_is_an_alarm(client, installation, tmp_path):
    add_lines(client, "1-0", "2-0", "3-0")
    sink = FileSink(tmp_path / "ledger", 1)
    copy(installation, sink)
    sink.close()
    scripts_on(client).trim(1)
    (tmp_path / "ledger").rename(tmp_path / "away")
    copier = Copier(installation, FileSink(tmp_path / "ledger", 1))
    for _ in range(2):
        assert copier.try_step() is None
    [status] = statuses(installation)
    assert (status.cursor, status.kind) == ("3-0", "gone_back") and "empty" in status.error
    assert forget(installation, sink.name)
    assert copier.try_step() == 1


def test_copier_that_is_behind_another_goes_on_when_the_log_is_trimmed(
    client, installation, make_sink
):
    add_lines(client, "1-0")
    one, other = Copier(installation, make_sink()), Copier(installation, make_sink())
    one.try_step()
    one.sink.close()
    other.try_step()
    add_lines(client, "2-0", "3-0")
    other.try_step()
    scripts_on(client).trim(1)
    other.sink.close()
    assert one.try_step() == 0
    assert [each.kind for each in statuses(installation)] == [""]


def test_note_of_a_copier_that_has_ended_is_taken_back(client, installation, tmp_path):
    add_lines(client, "1-0")
    (tmp_path / "ledger").write_text("in the way")
    ended = Copier(installation, FileSink(tmp_path / "ledger", 1))
    running = Copier(installation, FileSink(tmp_path / "ledger", 1))
    ended.try_step()
    (tmp_path / "ledger").unlink()
    running.try_step()
    ended._note(SinkError("it fails"))
    assert running.try_step() == 0
    assert [each.kind for each in statuses(installation)] == [""]


def test_exception_that_nobody_expects_ends_no_copier(client, installation, make_sink, caplog):
    copier = Copier(installation, make_sink())
    add_lines(client, "253402300800000-0")  # the year 10000
    assert copier.try_step() is None
    assert copier.try_step() is None
    [status] = statuses(installation)
    assert status.kind == "failed" and len(caplog.records) == 1
