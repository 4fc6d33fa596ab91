"""What several tests of real processes share."""

from collections.abc import Iterator

import pytest

from tests.system.pair import Pair


@pytest.fixture
def pair(tmp_path) -> Iterator[Pair]:
    """A primary and its replica."""
    pair = Pair(tmp_path)
    yield pair
    pair.stop()
