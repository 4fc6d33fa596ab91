"""The way out where Redis has gone back: the ledger says so in a line of its own, and goes on."""

from typing import Any

from coupon_service.installation import Installation
from coupon_service.ledger.copier import BATCH, group_of
from coupon_service.ledger.errors import SinkError
from coupon_service.ledger.line import GONE_BACK, Line, from_log
from coupon_service.ledger.sinks import Sink
from coupon_service.stream import parts


def lost_lines(installation: Installation, sink: Sink) -> list[Line]:
    """Return what a sink has at its end of a partition, and Redis has not.

    Raises:
        redis.exceptions.RedisError: Redis cannot be used.
        SinkError: the sink cannot, or Redis has lines between those, which the sink has not.
    """
    partition = installation.partition
    client: Any = installation.client
    last = sink.last(partition)
    accepted = client.hget(installation.keys.ledger, f"accepted:{sink.name}") or "0-0"
    if not last or last.log_id == accepted:
        return []
    cursor = last.log_id
    known = client.xrevrange(installation.keys.log, cursor, "-", count=1)
    if known:
        common = known[0][0]
        first = next(sink.pages(partition, _before(common), 1), [])
        if first != [from_log(partition, *known[0])]:
            raise SinkError(
                f"{sink.name}: redis has another line {common}: start a new ledger, and keep this"
            )
    else:
        common = client.get(installation.keys.trimmed) or "0-0"
        if parts(common) > parts(cursor):
            raise SinkError(f"{sink.name}: the log was trimmed past its end: start a new ledger")
    after = max(common, accepted, key=parts)  # what was lost before is accepted
    return [line for page in sink.pages(partition, after, BATCH) for line in page]


def accept(installation: Installation, sink: Sink, lost: list[Line]) -> None:
    """Add the line `gone_back`, whose entryId is the greatest id before those that Redis has
    lost; the log goes on after it.

    Args:
        lost: what `lost_lines` has returned, at least one line.

    Raises:
        redis.exceptions.RedisError, SinkError: see `lost_lines`; the call can be repeated.
        Busy: another process writes the sink.
    """
    client: Any = installation.client
    keys = installation.keys
    sink.open(installation.partition)  # nobody else writes it from here on
    ms, sequence = parts(lost[-1].log_id)
    marker = f"{ms}-{sequence + 1}"
    if not client.exists(keys.log):
        client.xgroup_create(keys.log, group_of(sink.name), marker, mkstream=True)
    if parts(client.xinfo_stream(keys.log)["last-generated-id"]) < parts(marker):
        client.execute_command("XSETID", keys.log, marker)  # what comes is after it
    elif client.xrange(keys.log, marker, marker):
        raise SinkError(f"{sink.name}: redis has a line {marker}: start a new ledger")
    client.hset(keys.ledger, f"accepted:{sink.name}", marker)
    sink.append(installation.partition, [
        Line(installation.partition, marker, GONE_BACK, entry_id=_before(lost[0].log_id))
    ])


def _before(log_id: str) -> str:
    """The greatest id below one."""
    ms, sequence = parts(log_id)
    return f"{ms}-{sequence - 1}" if sequence else f"{ms - 1}-{2**63 - 1}"
