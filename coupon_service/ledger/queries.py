"""What the comparison with Redis asks of a table of the ledger."""

from collections.abc import Iterator
from typing import Any

from sqlalchemy import ColumnElement, Text, cast, literal, not_, select, tuple_

from coupon_service.ledger.line import GONE_BACK
from coupon_service.ledger.sql import MS, SEQ, SqlSink, table
from coupon_service.stream import parts


class Queries:
    """Questions to one table. Every method raises `SinkError`."""

    def __init__(self, sink: SqlSink) -> None:
        self._sink = sink
        self.last, self.pages = sink.last, sink.pages

    def coupon_ids(self, partition: int, after: str, size: int) -> list[str]:
        """List up to `size` couponIds of the lines of a partition past `after`, in order."""
        query = select(table.c.coupon_id).where(
            table.c.partition == partition, table.c.coupon_id > after
        ).distinct().order_by(table.c.coupon_id).limit(size)
        return [row.coupon_id for row in self._sink.rows(query)]

    def lost_ranges(self, partition: int) -> list[Any]:
        """Return, of each loss that was accepted, the id before the lines and that of the last."""
        rows = self._sink.rows(select(table).where(
            table.c.partition == partition, table.c.decision == GONE_BACK
        ))
        return [(parts(row.entry_id), (row.log_ms, row.log_seq)) for row in rows]

    def quantity(self, partition: int, coupon_id: str, lost: list[Any]) -> int | None:
        """Return the quantity of a coupon as it was registered or changed last; None if the
        ledger does not have it, or the coupon was deleted since."""
        row = self._sink.newest(
            *_of(table, partition, coupon_id, lost),
            table.c.decision.in_(("registered", "changed", "deleted")),
        )
        return row.quantity if row else None

    def holders(
        self, partition: int, coupon_id: str, lost: list[Any]
    ) -> Iterator[tuple[str, str]]:
        """Yield log id and userId of each issuance that was not cancelled, of a coupon that was not
        deleted since, in order."""
        its = _of(table, partition, coupon_id, lost)
        deleted = self._sink.newest(*its, table.c.decision == "deleted")
        cancelled = table.alias("cancelled")
        query = select(table.c.log_ms, table.c.log_seq, table.c.user_id).where(
            *its,
            table.c.decision == "issued",
            tuple_(MS, SEQ) > tuple_(*((deleted.log_ms, deleted.log_seq) if deleted else (0, 0))),
            ~select(literal(1)).where(
                *_of(cancelled, partition, coupon_id, lost),
                cancelled.c.user_id == table.c.user_id,
                cancelled.c.decision == "cancelled",
                cancelled.c.entry_id == cast(MS, Text) + "-" + cast(SEQ, Text),
            ).exists(),
        ).order_by(MS, SEQ)
        for row in self._sink.rows(query):
            yield f"{row.log_ms}-{row.log_seq}", row.user_id


def _of(
    lines: Any, partition: int, coupon_id: str, lost: list[Any]
) -> list[ColumnElement[bool]]:
    """The conditions of the lines of a coupon, without those that Redis has lost."""
    log_id: Any = tuple_(lines.c.log_ms, lines.c.log_seq)
    return [
        lines.c.partition == partition, lines.c.coupon_id == coupon_id,
        *(not_((log_id > tuple_(*after)) & (log_id <= tuple_(*last))) for after, last in lost),
    ]
