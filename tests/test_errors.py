"""Which errors of Redis pass by themselves."""

import pytest
from redis.exceptions import (
    AuthenticationError,
    BusyLoadingError,
    ConnectionError,
    InvalidResponse,
    OutOfMemoryError,
    ReadOnlyError,
    ResponseError,
)

from coupon_service.errors import is_corrupt_data, is_outage
from coupon_service.circuit_breaker import CircuitBreaker

PREFIX_6_2 = "Error running script (call to f_0a1b): @user_script:12: @user_script: 12: "


@pytest.mark.parametrize(
    "error",
    [
        ConnectionError("refused"), AuthenticationError("wrong"), BusyLoadingError("loading"),
        InvalidResponse("Protocol Error: b'HTTP/1.1 400'"), ReadOnlyError("replica"),
        OutOfMemoryError("command not allowed when used memory > 'maxmemory'."),
        ResponseError("BUSY Redis is busy running a script."),
        ResponseError("MISCONF Redis is configured to save RDB snapshots"),
        ResponseError("NOREPLICAS Not enough good replicas to write."),
        ResponseError("UNBLOCKED the stream key no longer exists"),
        ResponseError("Protocol error: unauthenticated multibulk length"),
        ResponseError(PREFIX_6_2 + "-READONLY You can't write against a read only replica."),
        ResponseError(PREFIX_6_2 + "-OOM command not allowed when used memory > 'maxmemory'."),
    ],
    ids=lambda error: str(error)[-30:],
)
def test_outage_is_told_from_corrupt_data(error):
    assert is_outage(error) and not is_corrupt_data(error)


@pytest.mark.parametrize(
    "text",
    [
        "WRONGTYPE Operation against a key holding the wrong kind of value",
        PREFIX_6_2 + "WRONGTYPE Operation against a key holding the wrong kind of value",
        "CORRUPT stock, requested or quantity is not a number",
        "Command # 1 (GET coupon:OOM:stock) of pipeline caused error: WRONGTYPE Operation",
    ],
)
def test_corrupt_data_is_told_from_an_outage(text):
    assert is_corrupt_data(ResponseError(text)) and not is_outage(ResponseError(text))


def test_what_is_unknown_is_neither():
    error = ResponseError("unknown command 'EVALSHA'")
    assert not is_outage(error) and not is_corrupt_data(error)


def test_gate_passes_on_what_is_no_outage():
    gate = CircuitBreaker()
    with pytest.raises(ResponseError, match="WRONGTYPE"):
        with gate:
            raise ResponseError("WRONGTYPE")
    with gate:
        pass
