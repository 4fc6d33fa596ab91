"""`flask coupons`: administration from the command line, straight on Redis."""

import json
import sys
from typing import Any, TextIO

import click
from marshmallow import ValidationError

from coupon_service.admin import scatter_gather
from coupon_service.admin.coupon_list import PAGE, CouponList
from coupon_service.admin.csv_export import csv_lines
from coupon_service.admin.operations import Operations
from coupon_service.admin.reconcile import Reconciliation
from coupon_service.cli.dead_letters import dead
from coupon_service.cli.rehearse import rehearse
from coupon_service.cli.terminal import REFUSED, UNAVAILABLE, json_option, matching, open_partitions
from coupon_service.cli.terminal import show as show_answer
from coupon_service.installation import Installation
from coupon_service.keys import COUPON_ID, USER_ID
from coupon_service.web.schemas import RegisterSchema

#: Records from which on a progress bar is worth showing.
LONG = 10_000
#: What `list` shows.
COLUMNS = ("couponId", "state", "quantity", "stock", "requested", "issued", "pending")


_coupon = click.argument("coupon_id", metavar="ID", callback=matching(COUPON_ID))
_user = click.argument("user_id", metavar="USER", callback=matching(USER_ID))


@click.group()
def coupons() -> None:
    """Administer coupons.

    Exit codes: 0 done, 1 refused, 2 wrong usage, 3 Redis cannot be used.
    """


coupons.add_command(dead)
coupons.add_command(rehearse)


@coupons.command()
@_coupon
@click.argument("quantity", type=click.IntRange(1, 10**9))
@click.option("--opens-at", "opensAt", help="RFC 3339, or none.")
@click.option("--closes-at", "closesAt", help="RFC 3339, or none.")
@click.option("--expires-at", "expiresAt", help="RFC 3339, or none.")
@json_option
def register(coupon_id: str, quantity: int, as_json: bool, **window: str | None) -> None:
    """Register coupon ID with QUANTITY, or change what was registered."""
    given = {name: value for name, value in window.items() if value is not None}
    body = {"couponId": coupon_id, "quantity": quantity, **given}
    try:
        registration = RegisterSchema().load(
            {name: None if value == "none" else value for name, value in body.items()}
        )
    except ValidationError as error:
        raise click.UsageError(str(error)) from None
    with open_partitions() as partitions:
        [answer] = partitions.register(registration)
    show_answer(answer, as_json)


@coupons.command("list")
@json_option
def list_coupons(as_json: bool) -> None:
    """List all coupons."""
    answer, after, missing = [], "", set[int]()
    with open_partitions() as partitions:
        while True:
            page, after, unavailable = scatter_gather.list_coupons(partitions, PAGE, after)
            answer += page
            missing |= set(unavailable)
            if not after:
                break
    if as_json:
        click.echo(json.dumps(answer))
    else:
        _print_table(answer)
    if missing:
        click.echo(f"Error: unavailable: partitions {sorted(missing)} are missing", err=True)
        sys.exit(UNAVAILABLE)


def _print_table(answer: list[dict[str, Any]]) -> None:
    rows = [COLUMNS, *([str(coupon.get(name, "-")) for name in COLUMNS] for coupon in answer)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        cells = (f"{value:{width}}" for value, width in zip(row, widths, strict=True))
        click.echo("  ".join(cells).rstrip())


@coupons.command()
@_coupon
@json_option
def show(coupon_id: str, as_json: bool) -> None:
    """Show the counters and statistics of coupon ID."""
    with open_partitions() as partitions:
        show_answer(Operations(partitions.of(coupon_id)).statistics(coupon_id), as_json)


@coupons.command()
@_coupon
@json_option
def close(coupon_id: str, as_json: bool) -> None:
    """Close coupon ID now: it cannot be requested any more."""
    with open_partitions() as partitions:
        show_answer(Operations(partitions.of(coupon_id)).close(coupon_id), as_json)


@coupons.command()
@_coupon
@_user
@click.option("--request-id", default="", help="Only if it is this request of the user.")
@json_option
def cancel(coupon_id: str, user_id: str, request_id: str, as_json: bool) -> None:
    """Cancel the issuance of coupon ID to USER, or withdraw the pending request."""
    with open_partitions() as partitions:
        cancelled = Operations(partitions.of(coupon_id)).cancel(coupon_id, user_id, request_id)
    show_answer(cancelled, as_json)


@coupons.command()
@_coupon
@json_option
@click.confirmation_option(prompt="All records of this coupon but the log will be removed. Go on?")
def delete(coupon_id: str, as_json: bool) -> None:
    """Delete coupon ID: refuse its pending requests, remove all its records but the log."""
    with open_partitions() as partitions:
        show_answer(Operations(partitions.of(coupon_id)).delete(coupon_id), as_json)


@coupons.command()
@_coupon
@click.option("--output", type=click.File("w", encoding="utf-8"), default="-", show_default=True)
@click.option("--safe", is_flag=True, help="Put a quote before what could be read as a formula.")
def export(coupon_id: str, output: TextIO, safe: bool) -> None:
    """Write the issuances of coupon ID as CSV, the newest first."""
    with open_partitions() as partitions:
        installation = partitions.of(coupon_id)
        issued = installation.coupons.snapshot(coupon_id)["issued"]
        issuances = Operations(installation).all_issuances(coupon_id)
        with click.progressbar(length=issued, file=sys.stderr, hidden=issued < LONG) as bar:
            for line in csv_lines(coupon_id, issuances, safe):
                output.write(line)
                bar.update(1)


@coupons.command()
@click.argument("coupon_ids", metavar="[ID]...", nargs=-1)
@click.option("--fix", is_flag=True, help="Repair what can be repaired with certainty.")
def reconcile(coupon_ids: tuple[str, ...], fix: bool) -> None:
    """Recount the coupons ID (all by default) from marks, log and stream.

    Shows every disagreement, and exits with 1 if one is left. The service may run meanwhile.
    """
    with open_partitions() as partitions:
        known = {
            each for installation in partitions for page in CouponList(installation).id_pages()
            for each in page
        }
        if unknown := set(coupon_ids) - known:
            raise click.ClickException(f"not registered: {' '.join(sorted(unknown))}")
        ids = list(dict.fromkeys(coupon_ids)) or sorted(known)
        grouped = partitions.by_installation(ids)
        records = sum(map(_records, grouped))
        with click.progressbar(length=records, file=sys.stderr, hidden=records < LONG) as bar:
            found = [
                disagreement for installation, its in grouped.items()
                for disagreement in Reconciliation(installation, its, bar.update).run(fix)
            ]
    for disagreement in found:
        repaired = " (repaired)" if disagreement.repaired else ""
        click.echo(f"{disagreement.coupon_id}: {disagreement.text}{repaired}")
    left = sum(not disagreement.repaired for disagreement in found)
    click.echo(f"{len(ids)} coupons, {len(found)} disagreements, {left} left")
    sys.exit(REFUSED if left else 0)


def _records(installation: Installation) -> int:
    client: Any = installation.client
    keys = installation.keys
    return int(client.xlen(keys.requests)) + 2 * int(client.xlen(keys.log))
