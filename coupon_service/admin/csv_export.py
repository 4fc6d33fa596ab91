"""Issuances as CSV (RFC 4180)."""

import csv
import io
from collections.abc import Iterator
from typing import Any

COLUMNS = ("couponId", "userId", "requestId", "issuedAt")


def csv_lines(
    coupon_id: str, issuances: Iterator[dict[str, Any]], safe: bool = False
) -> Iterator[str]:
    """Write a head and a line for each issuance, one by one.

    The first issuance is fetched at once, so that a refusal is raised here and not when half
    of the answer is out.

    Args:
        safe: whether a value that a spreadsheet could take for a formula gets a quote before it.
    """
    write = _harmless if safe else str
    first = next(issuances, None)

    def lines() -> Iterator[str]:
        yield _line(COLUMNS)
        issuance = first
        while issuance:
            values = {"couponId": coupon_id, **issuance}
            yield _line(write(values.get(name, "")) for name in COLUMNS)
            issuance = next(issuances, None)

    return lines()


def _line(values: Any) -> str:
    text = io.StringIO()
    csv.writer(text).writerow(values)
    return text.getvalue()


def _harmless(value: str) -> str:
    """Keep a spreadsheet from taking a userId for a formula (OWASP: CSV injection).

    A value that begins with a quote gets one too: without the first quote, each is as it was.
    """
    return f"'{value}" if value.startswith(("=", "+", "-", "@", "\t", "\r", "'")) else value
