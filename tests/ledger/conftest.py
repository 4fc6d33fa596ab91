"""What the tests of the ledger share."""

import pytest

from tests.sinks import open_sink
from tests.state import installation_on


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
