"""`flask coupons`: administration from the command line, straight on Redis."""

import json
import re
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import Any, TextIO

import click
from redis.exceptions import RedisError

from coupon_service.administration import Administration
from coupon_service.config import from_environment
from coupon_service.connection import connect
from coupon_service.coupons import Coupons
from coupon_service.errors import CouponError
from coupon_service.export import csv_lines
from coupon_service.keys import COUPON_ID, USER_ID, Keys
from coupon_service.outage import Gate
from coupon_service.reconcile import Reconciliation
from coupon_service.scripts import Declaration, Scripts

#: Seconds to wait for one reply: a person waits more patiently than a front end.
TIMEOUT = 5.0
#: Records from which on a progress bar is worth showing.
LONG = 10_000
#: Exit codes; click uses 2 for wrong usage.
REFUSED, UNAVAILABLE = 1, 3
#: What `list` shows.
COLUMNS = ("couponId", "state", "quantity", "stock", "requested", "issued", "pending")


class Installation:
    """What the commands work with: the Redis of the environment."""

    def __init__(self) -> None:
        config = from_environment()
        self.client: Any = connect(config.redis_url, TIMEOUT, 1, config.redis_verify)
        self.keys = Keys(config.key_prefix)
        self.scripts = Scripts(self.client, self.keys, config.retention)
        parts = (self.client, self.keys, self.scripts, Gate())
        self.coupons = Coupons(*parts)
        self.administration = Administration(*parts)


@contextmanager
def _failures_in_one_line() -> Iterator[None]:
    try:
        yield
    except CouponError as error:
        click.echo(f"Error: {error.code}: {error.__cause__ or error}", err=True)
        sys.exit(UNAVAILABLE if error.code == "unavailable" else REFUSED)
    except RedisError as error:
        click.echo(f"Error: unavailable: {error}", err=True)
        sys.exit(UNAVAILABLE)


def _matching(pattern: str) -> Callable[..., Any]:
    def check(_context: Any, _parameter: Any, value: str) -> str:
        if not re.fullmatch(pattern, value):
            raise click.BadParameter(f"{value!r} is not valid")
        return value

    return check


def _instant(_context: Any, parameter: Any, value: str | None) -> int | None:
    if value is None or value == "none":
        return None
    try:
        instant = datetime.fromisoformat(value)
    except ValueError:
        raise click.BadParameter(f"{value!r} is not RFC 3339") from None
    if instant.tzinfo is None:
        raise click.BadParameter(f"{value!r} has no offset, such as Z or +09:00")
    return int(instant.timestamp() * 1000)


def _show(answer: Any, as_json: bool) -> None:
    if as_json:
        click.echo(json.dumps(answer))
        return
    for name, value in answer.items():
        text = " ".join(f"{k}={v}" for k, v in value.items()) if isinstance(value, dict) else value
        click.echo(f"{name:14} {'-' if text is None else text}")


_coupon = click.argument("coupon_id", metavar="ID", callback=_matching(COUPON_ID))
_user = click.argument("user_id", metavar="USER", callback=_matching(USER_ID))
_json = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


@click.group()
def coupons() -> None:
    """Look after coupons.

    Exit codes: 0 done, 1 refused, 2 wrong usage, 3 Redis cannot be used.
    """


@coupons.command()
@_coupon
@click.argument("quantity", type=click.IntRange(1, 10**9))
@click.option("--opens-at", "opensAt", callback=_instant, help="RFC 3339, or none.")
@click.option("--closes-at", "closesAt", callback=_instant, help="RFC 3339, or none.")
@click.option("--expires-at", "expiresAt", callback=_instant, help="RFC 3339, or none.")
@_json
@click.pass_context
def register(
    context: click.Context, /, coupon_id: str, quantity: int, as_json: bool, **window: int | None
) -> None:
    """Declare that QUANTITY coupons ID may be issued, or change what was declared."""
    default = click.core.ParameterSource.DEFAULT
    given = {name: window[name] for name in window if context.get_parameter_source(name) != default}
    with _failures_in_one_line():
        [answer] = Installation().coupons.register(Declaration(coupon_id, quantity, given))
    _show(answer, as_json)


@coupons.command("list")
@_json
def list_coupons(as_json: bool) -> None:
    """List all coupons."""
    with _failures_in_one_line():
        answer = Installation().administration.coupons()
    if as_json:
        click.echo(json.dumps(answer))
        return
    rows = [COLUMNS, *([str(coupon[name]) for name in COLUMNS] for coupon in answer)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        cells = (f"{value:{width}}" for value, width in zip(row, widths, strict=True))
        click.echo("  ".join(cells).rstrip())


@coupons.command()
@_coupon
@_json
def show(coupon_id: str, as_json: bool) -> None:
    """Show the numbers and statistics of coupon ID."""
    with _failures_in_one_line():
        _show(Installation().administration.statistics(coupon_id), as_json)


@coupons.command()
@_coupon
@_json
def close(coupon_id: str, as_json: bool) -> None:
    """Close coupon ID now: nobody can request it any more."""
    with _failures_in_one_line():
        _show(Installation().administration.close(coupon_id), as_json)


@coupons.command()
@_coupon
@_user
@_json
def cancel(coupon_id: str, user_id: str, as_json: bool) -> None:
    """Take coupon ID back from USER: the place returns."""
    with _failures_in_one_line():
        _show(Installation().administration.cancel(coupon_id, user_id), as_json)


@coupons.command()
@_coupon
@_json
@click.confirmation_option(prompt="All that is known of this coupon will be removed. Go on?")
def delete(coupon_id: str, as_json: bool) -> None:
    """End coupon ID: refuse who is pending, remove all that is known of it."""
    with _failures_in_one_line():
        _show(Installation().administration.delete(coupon_id), as_json)


@coupons.command()
@_coupon
@click.option("--output", type=click.File("w", encoding="utf-8"), default="-", show_default=True)
def export(coupon_id: str, output: TextIO) -> None:
    """Write the issuances of coupon ID as CSV, the newest first."""
    with _failures_in_one_line():
        installation = Installation()
        issued = installation.coupons.numbers(coupon_id)["issued"]
        issuances = installation.administration.all_issuances(coupon_id)
        with click.progressbar(length=issued, file=sys.stderr, hidden=issued < LONG) as bar:
            for line in csv_lines(coupon_id, issuances):
                output.write(line)
                bar.update(1)


@coupons.command()
@click.argument("coupon_ids", metavar="[ID]...", nargs=-1)
@click.option("--fix", is_flag=True, help="Mend what can be mended with certainty.")
def reconcile(coupon_ids: tuple[str, ...], fix: bool) -> None:
    """Recount the coupons ID (all by default) from marks, log and stream.

    Shows every disagreement, and exits with 1 if one is left. The service may run meanwhile.
    """
    with _failures_in_one_line():
        installation = Installation()
        client, keys = installation.client, installation.keys
        known: list[str] = sorted(client.smembers(keys.coupons))
        if unknown := set(coupon_ids) - set(known):
            raise click.ClickException(f"not registered: {' '.join(sorted(unknown))}")
        ids = list(coupon_ids) or known
        records = client.xlen(keys.requests) + 2 * client.xlen(keys.log)
        with click.progressbar(length=records, file=sys.stderr, hidden=records < LONG) as bar:
            recount = Reconciliation(client, keys, installation.scripts, ids, bar.update)
            found = list(recount.run(fix))
    for disagreement in found:
        mended = " (mended)" if disagreement.mended else ""
        click.echo(f"{disagreement.coupon_id}: {disagreement.text}{mended}")
    left = sum(not disagreement.mended for disagreement in found)
    click.echo(f"{len(ids)} coupons, {len(found)} disagreements, {left} left")
    sys.exit(REFUSED if left else 0)
