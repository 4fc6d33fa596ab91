"""How every process logs: a line of text, or a JSON object, for each thing that happens."""

import json
import logging
import os
import re
import sys
from collections.abc import Mapping
from contextlib import suppress
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any

from coupon_service.config import Config
from coupon_service.errors import ConfigError

TEXT = "%(asctime)s %(levelname)s %(message)s"
#: The same for several processes whose lines come together.
TEXT_WITH_PID = "%(asctime)s %(levelname)s pid=%(process)d %(message)s"
#: A placeholder in the format of a line; its name and its key in a mapping, where it has them.
_PLACEHOLDER = re.compile(r'(?:(\w+)="?)?%(?:\((.*?)\))?[-.\d]*[a-z]')


def configure(config: Config, text: str = TEXT, others: tuple[str, ...] = ()) -> None:
    """Set up the log of this process, on standard error; it may be called again.

    Args:
        config: log_format and log_level.
        text: the format of a line of text.
        others: names of loggers that have handlers already: they get the level, and JSON.

    Raises:
        ConfigError: python-json-logger is not installed.
    """
    formatter = _JSONLines() if config.log_format == "json" else None
    logging.basicConfig(format=text)
    for logger in (logging.root, *map(logging.getLogger, others)):
        logger.setLevel(config.log_level)
        for handler in logger.handlers if formatter else ():
            handler.setFormatter(formatter)
    if formatter:
        # Python itself would write these as text.
        logging.captureWarnings(True)
        sys.excepthook = lambda *failure: logging.critical("the process ends", exc_info=failure)


class _JSONLines(logging.Formatter):
    """Makes each `name=%s` in the format of a line a field of its own, beside the message.

    The code that logs does nothing for it, so that lines of text cost no more.
    """

    def __init__(self) -> None:
        super().__init__()
        try:
            from pythonjsonlogger.json import JsonFormatter
        except ModuleNotFoundError:
            raise ConfigError(
                "COUPON_LOG_FORMAT=json needs python-json-logger: pip install python-json-logger"
            ) from None
        self._formatter = JsonFormatter(
            "%(time)s %(levelname)s %(name)s %(process)d %(message)s",
            rename_fields={"levelname": "level", "name": "logger"},
        )

    def format(self, record: logging.LogRecord) -> str:
        """Return the line."""
        record.time = datetime.fromtimestamp(record.created, UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        record.process = os.getpid()  # the worker does not determine it
        for name, value in _fields(record):
            record.__dict__.setdefault(name, value)
        return self._formatter.format(record)


def _fields(record: logging.LogRecord) -> list[tuple[str, Any]]:
    placeholders = _placeholders(str(record.msg)) if record.args else []
    if isinstance(record.args, Mapping):  # gunicorn's access line: "-" is for nothing
        values = [(name, record.args[key]) for name, key in placeholders]
        return [
            (name, value.replace('\\"', '"') if isinstance(value, str) else value)
            for name, value in values if name and value != "-"
        ]
    return [
        (name, _unquoted(value))
        for (name, _), value in zip(placeholders, record.args or ()) if name
    ]


@lru_cache(maxsize=256)
def _placeholders(template: str) -> list[tuple[str, str]]:
    return _PLACEHOLDER.findall(template)


def _unquoted(value: object) -> object:
    """Return a number or a text; one that was quoted, to be one word in a line, as it was."""
    if isinstance(value, int):
        return value
    text = str(value)
    if text.startswith('"'):
        with suppress(ValueError):
            return json.loads(text)
    return text
