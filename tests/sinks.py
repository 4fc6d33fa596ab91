"""The kinds of sinks that tests of the ledger run on."""

from contextlib import suppress
from pathlib import Path

import pytest

from coupon_service.config import Config
from coupon_service.ledger.errors import SinkError
from coupon_service.ledger.line import Line
from coupon_service.ledger.sinks import Sink, open_sinks
from tests import postgres
from tests.state import PARTITIONS

SQL_SINKS = ["sqlite", pytest.param(
    "postgresql", marks=pytest.mark.skipif(postgres.MISSING, reason=postgres.REASON)
)]
SINKS = ["file", *SQL_SINKS]


@pytest.fixture(params=SINKS)
def sink_url(request, tmp_path: Path) -> str:
    """The URL of a sink that does not exist yet, or of an empty database."""
    if request.param == "postgresql":
        return request.getfixturevalue("shared_postgres").database()
    urls = {"file": f"file:{tmp_path}/ledger", "sqlite": f"sqlite:///{tmp_path}/ledger.db"}
    return urls[request.param]


def open_sink(url: str) -> Sink:
    [sink] = open_sinks(Config(ledger=[url], partitions=PARTITIONS))
    return sink


def last_id(sink: Sink, partition: int) -> str:
    """The id of the last line; 0-0 while there is none, or no sink yet."""
    with suppress(SinkError):
        if last := sink.last(partition):
            return last.log_id
    return "0-0"


def lines_of(sink: Sink, partition: int) -> list[Line]:
    return [line for page in sink.pages(partition, "0-0", 1000) for line in page]
