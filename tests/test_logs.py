"""Lines of text and of JSON."""

import io
import json
import logging
import re
import sys
import warnings

import pytest

from coupon_service import logs
from coupon_service.config import Config, from_environment
from coupon_service.errors import ConfigError
from coupon_service.scripts import Registration
from tests.processes import wait_until


@pytest.fixture
def lines(monkeypatch):
    """A logger set up as one that has its own handler, as gunicorn's have; its lines as JSON."""
    monkeypatch.setattr(sys, "excepthook", sys.excepthook)
    written = io.StringIO()
    monkeypatch.setattr(logging.root, "handlers", [logging.StreamHandler(written)])
    logger = logging.Logger("some.logger")
    logger.addHandler(logging.StreamHandler(written))
    monkeypatch.setitem(logging.root.manager.loggerDict, "some.logger", logger)
    level = logging.root.level
    logs.configure(Config(log_format="json"), others=("some.logger",))
    yield logger, lambda: [json.loads(line) for line in written.getvalue().splitlines()]
    logging.captureWarnings(False)
    logging.root.setLevel(level)


def test_line_has_time_level_logger_process_and_message(lines):
    logger, written = lines
    logger.warning("redis is back after %.1f s%s", 4.21, " partition=3")
    [line] = written()
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z", line.pop("time"))
    assert line.pop("process") > 0
    assert line == {
        "level": "WARNING", "logger": "some.logger",
        "message": "redis is back after 4.2 s partition=3",
    }


@pytest.mark.parametrize("format, args, fields", [
    ("data is of format 2 now coupons=%d", (3,), {"coupons": 3}),
    ("removed couponId=%s", ("A",), {"couponId": "A"}),
    ("dead letter entryId=%s reason=%s", ("1-0", '"two words"'),
     {"entryId": "1-0", "reason": "two words"}),
    ("waiting for redis%s error=%s", (" partition=3", OSError('"oops')), {"error": '"oops'}),
    ("100 %% of couponId=%s", ("A",), {"couponId": "A"}),
    ("name=%s", ("not the logger's",), {}),
    ("no arguments: a=%s", (), {}),
    ('r="%(r)s" b=%(b)s xRequestId=%({x}e)s requestId=%({y}e)s',
     ({"r": 'GET /\\"', "b": 5, "{x}e": 'a\\"b', "{y}e": "-"},),
     {"r": 'GET /"', "b": 5, "xRequestId": 'a"b'}),
])
def test_names_in_the_format_become_fields(lines, format, args, fields):
    logger, written = lines
    logger.info(format, *args)
    [line] = written()
    assert line["logger"] == "some.logger"
    expected = format % (args[0] if "%(" in format else args) if args else format
    assert line["message"] == expected
    assert {name: value for name, value in line.items() if name not in (
        "time", "level", "logger", "process", "message"
    )} == fields


def test_traceback_is_a_field(lines):
    logger, written = lines
    try:
        raise ValueError("why")
    except ValueError:
        logger.exception("an exception that is a defect")
    [line] = written()
    assert line["message"] == "an exception that is a defect"
    assert line["exc_info"].startswith("Traceback") and "ValueError: why" in line["exc_info"]


def test_exception_that_ends_the_process_and_warnings_are_lines_too(lines):
    _, written = lines
    sys.excepthook(ValueError, ValueError("why"), None)
    warnings.showwarning("deprecated", UserWarning, "file.py", 1)
    ended, warned = written()
    assert ended["level"] == "CRITICAL" and "ValueError: why" in ended["exc_info"]
    assert warned["logger"] == "py.warnings" and "UserWarning: deprecated" in warned["message"]


def test_decision_has_its_ids_as_fields(lines, coupons, worker, monkeypatch):
    logger, written = lines
    monkeypatch.setattr("coupon_service.decisions.log", logger)
    coupons.register(Registration("A", 10))
    coupons.request("A", 'two words "쿠폰"', "r")
    wait_until(worker.run_once, "a decision")
    [line] = written()
    assert {name: line[name] for name in ("couponId", "userId", "requestId", "decision")} == {
        "couponId": "A", "userId": 'two words "쿠폰"', "requestId": "r", "decision": "issued",
    }


@pytest.mark.parametrize("level, shown", [("ERROR", ["error"]), ("DEBUG", ["debug", "error"])])
def test_least_level_is_a_setting(lines, level, shown):
    logger, written = lines
    logs.configure(Config(log_format="json", log_level=level), others=("some.logger",))
    logger.debug("debug")
    logger.error("error")
    assert [line["message"] for line in written()] == shown


@pytest.mark.parametrize("name, value", [
    ("COUPON_LOG_FORMAT", "xml"), ("COUPON_LOG_LEVEL", "LOUD"), ("COUPON_LOG_LEVEL", "10"),
])
def test_bad_setting_is_an_error_that_names_it(monkeypatch, tmp_path, name, value):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv(name, value)
    with pytest.raises(ConfigError, match=name):
        from_environment()


def test_missing_extra_is_one_clear_line(monkeypatch):
    monkeypatch.setitem(sys.modules, "pythonjsonlogger", None)
    monkeypatch.setitem(sys.modules, "pythonjsonlogger.json", None)
    with pytest.raises(ConfigError, match="^COUPON_LOG_FORMAT=json needs python-json-logger"):
        logs.configure(Config(log_format="json"))
