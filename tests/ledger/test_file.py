"""The ledger in files: whole lines, one process at a time."""

import json
from datetime import UTC, datetime

import pytest

from coupon_service.ledger.copier import Copier
from coupon_service.ledger.errors import Busy
from coupon_service.ledger.file import FileSink
from coupon_service.ledger.line import Line, from_json, to_json
from coupon_service.ledger.status import statuses
from tests.ledger.copying import add_lines, copy, logged
from tests.sinks import lines_of
from tests.state import KEYS

DAY = 86_400_000


def test_line_survives_json():
    line = Line(3, "1795500000123-7", "changed", "A", None, None, None, 5, 0, 1, 10**12, 2, None)
    assert from_json(to_json(line)) == line
    shown = json.loads(to_json(line))
    assert shown["decidedAt"] == "2026-11-24T06:00:00.123Z" and shown["expiresAt"] is None


def test_instants_are_of_today():
    now = datetime.now(UTC)
    ms = int(now.timestamp() * 1000)
    assert json.loads(to_json(Line(0, f"{ms}-0")))["decidedAt"][:10] == now.strftime("%Y-%m-%d")


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
