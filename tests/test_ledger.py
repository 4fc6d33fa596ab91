"""The ledger has each line of the log once, in order, wherever copying stops."""

import json
import sqlite3
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from functools import partial
from threading import Barrier

import pytest
from redis.exceptions import ConnectionError

from coupon_service.ledger import copier as copying
from coupon_service.ledger import sql
from coupon_service.ledger.accept import accept, lost_lines
from coupon_service.ledger.copier import Copier
from coupon_service.ledger.errors import Busy, GoneBack, SinkError
from coupon_service.ledger.file import FileSink
from coupon_service.ledger.line import Line, from_json, from_log, to_json
from coupon_service.ledger.status import forget, statuses
from coupon_service.ledger.verify import differences, queryable
from coupon_service.scripts import Registration
from tests import postgres
from tests.processes import PATIENCE
from tests.sinks import SQL_SINKS, last_id, lines_of, open_sink
from tests.state import (
    KEYS,
    coupons_on,
    drain,
    installation_on,
    log_lines,
    operations_on,
    scripts_on,
    worker_on,
)

DAY = 86_400_000


@pytest.fixture
def make_sink(sink_url):
    """Opens the same sink again and again, as processes do one after the other."""
    opened = []

    def make():
        while opened:
            opened.pop().close()
        opened.append(open_sink(sink_url))
        return opened[-1]

    yield make
    for sink in opened:
        sink.close()


@pytest.fixture
def installation(client):
    return installation_on(client)


def copy(installation, sink):
    """What one process does until there is nothing more."""
    copier = Copier(installation, sink)
    while copier.step():
        pass


def logged(installation):
    """The log as the ledger should have it."""
    entries = installation.client.xrange(installation.keys.log)
    return [from_log(installation.partition, *entry) for entry in entries]


def add_lines(client, *ids):
    for log_id in ids:
        client.xadd(KEYS.of("A").log, {"couponId": "A", "decision": "x"}, id=log_id)


def lost_of(table):
    return table.lost_ranges(KEYS.all.index(KEYS.of("A")))


def a_life(client, coupons, worker):
    coupons.register(Registration("A", 2, {"closesAt": 8 * 10**12}))
    for user in ("u1", "한국", "u3"):
        coupons.request("A", user, f"r-{user}") if user != "u3" else None
    drain(client, worker)
    operations_on(client).cancel("A", "u1")


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


@pytest.mark.parametrize("sink_url", SQL_SINKS, indirect=True)
def test_table_is_created_by_any_of_many_that_find_it_missing(sink_url):
    sinks = [open_sink(sink_url) for _ in range(8)]
    barrier = Barrier(len(sinks))

    def begin(sink):
        barrier.wait()
        sink.open(0)

    with ThreadPoolExecutor(len(sinks)) as threads:
        list(threads.map(begin, sinks))
    assert [last_id(sink, 0) for sink in sinks] == ["0-0"] * len(sinks)
    for sink in sinks:
        sink.close()


@pytest.fixture
def locked(tmp_path):
    """A SQLite file without a table, which another connection has locked, and that connection."""
    url = f"sqlite:///{tmp_path}/ledger.db"
    other = sqlite3.connect(tmp_path / "ledger.db", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    yield url, other
    other.close()


def test_sqlite_file_that_is_locked_is_waited_for(locked):
    url, other = locked
    sink = open_sink(url)
    with ThreadPoolExecutor(1) as thread:
        opening = thread.submit(sink.open, 0)
        with pytest.raises(TimeoutError):
            opening.result(0.3)
        other.execute("COMMIT")
        opening.result(PATIENCE)
    sink.close()
    assert other.execute("PRAGMA journal_mode").fetchone() == ("wal",)


def test_sqlite_file_that_stays_locked_is_given_up(locked, monkeypatch):
    monkeypatch.setattr(sql, "LOCKED", 0.1)
    sink = open_sink(locked[0])
    with pytest.raises(SinkError, match="database is locked"):
        sink.open(0)
    sink.close()


@pytest.mark.parametrize("decision", ["a\x00b", b"\xff", "x" * 5000, ""])
def test_no_line_stops_the_ledger(client, installation, make_sink, decision):
    client.xadd(KEYS.of("A").log, {"couponId": "A", "userId": decision, "quantity": "1e9"})
    client.xadd(KEYS.of("A").log, {"other": "fields", "opensAt": "9" * 30})
    copy(installation, make_sink())
    assert len(lines_of(make_sink(), installation.partition)) == 2


def test_line_survives_json():
    line = Line(3, "1795500000123-7", "changed", "A", None, None, None, 5, 0, 1, 10**12, 2, None)
    assert from_json(to_json(line)) == line
    shown = json.loads(to_json(line))
    assert shown["decidedAt"] == "2026-11-24T06:00:00.123Z" and shown["expiresAt"] is None


def test_each_day_has_a_file(client, installation, tmp_path):
    add_lines(client, "1-0", f"{DAY - 1}-0", f"{DAY}-0", f"{3 * DAY}-5")
    copy(installation, FileSink(tmp_path, 1))
    names = sorted(path.name for path in tmp_path.glob("*.jsonl"))
    assert names == [f"ledger-1970-01-0{day}.jsonl" for day in (1, 2, 4)]
    first = (tmp_path / names[0]).read_text().splitlines()
    assert [json.loads(line)["logId"] for line in first] == ["1-0", f"{DAY - 1}-0"]
    past = FileSink(tmp_path, 1).pages(0, f"{DAY}-0", 10)
    assert [line.log_id for page in past for line in page] == [f"{3 * DAY}-5"]


def test_torn_line_is_written_again_wherever_it_was_torn(client, installation, tmp_path):
    add_lines(client, "1-0", "2-0", f"{DAY}-0")
    sink = FileSink(tmp_path / "whole", 1)
    copy(installation, sink)
    sink.close()
    last = tmp_path / "whole" / "ledger-1970-01-02.jsonl"
    whole = last.read_bytes()
    for length in range(len(whole)):
        last.write_bytes(whole[:length])
        sink = FileSink(tmp_path / "whole", 1)
        copy(installation, sink)
        sink.close()
        assert last.read_bytes() == whole


def test_file_is_written_by_one_process_at_a_time(client, installation, tmp_path):
    add_lines(client, "1-0")
    first, second = FileSink(tmp_path, 1), FileSink(tmp_path, 1)
    copy(installation, first)
    add_lines(client, "2-0")
    waiting = Copier(installation, second)
    with pytest.raises(Busy):
        waiting.step()
    assert waiting.try_step() is None
    assert [each.kind for each in statuses(installation)] == [""]
    first.close()
    assert waiting.try_step() == 1
    assert lines_of(second, 0) == logged(installation)


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


def test_instants_are_of_today():
    now = datetime.now(UTC)
    ms = int(now.timestamp() * 1000)
    assert json.loads(to_json(Line(0, f"{ms}-0")))["decidedAt"][:10] == now.strftime("%Y-%m-%d")


def found_by_verify(installation, sink):
    with queryable(sink, range(installation.partition + 1)) as (table, disorder):
        return [*disorder, *differences(installation, table)]


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


def test_torn_line_ends_no_reader(client, installation, tmp_path):
    for name in ("가나", "다라"):
        client.xadd(KEYS.of("A").log, {"couponId": "A", "userId": name})
    sink = FileSink(tmp_path, 1)
    copy(installation, sink)
    [path] = tmp_path.glob("*.jsonl")
    whole = path.read_bytes()
    first = whole.index(b"\n") + 1
    for length in range(first, len(whole)):
        path.write_bytes(whole[:length])
        assert [line.user_id for line in lines_of(sink, 0)] == ["가나"]
        assert sink.last(0).user_id == "가나"


def test_lines_that_are_twice_or_out_of_order_are_found(client, installation, tmp_path):
    add_lines(client, "1-0", "2-0")
    sink = open_sink(f"file:{tmp_path}")
    copy(installation, sink)
    sink.close()
    [path] = tmp_path.glob("*.jsonl")
    path.write_bytes(path.read_bytes() * 2)
    assert found_by_verify(installation, sink) == ["line 1-0 comes after 2-0"]


def test_exception_that_nobody_expects_ends_no_copier(client, installation, make_sink, caplog):
    copier = Copier(installation, make_sink())
    add_lines(client, "253402300800000-0")  # the year 10000
    assert copier.try_step() is None
    assert copier.try_step() is None
    [status] = statuses(installation)
    assert status.kind == "failed" and len(caplog.records) == 1


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


@pytest.mark.skipif(postgres.MISSING, reason=postgres.REASON)
def test_zone_of_the_database_changes_no_instant(client, coupons, installation, shared_postgres):
    url = shared_postgres.database()
    shared_postgres.execute(url, "ALTER DATABASE %s SET timezone = 'Asia/Seoul'")
    coupons.register(Registration("A", 3, {"closesAt": 253_402_300_799_999}))
    sink = open_sink(url)
    copy(installation, sink)
    assert lines_of(sink, installation.partition) == logged(installation)
    sink.close()


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
