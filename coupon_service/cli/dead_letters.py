"""`flask coupons dead`: the entries that could not be decided."""

import json
from typing import Any

import click

from coupon_service.admin.dead_letters import DEAD_LETTER, DeadLetters
from coupon_service.cli.terminal import json_option, matching, open_partitions, show

#: Dead letters that are read in one round trip.
PAGE = 500

_name = click.argument("name", callback=matching(DEAD_LETTER))


@click.group()
def dead() -> None:
    """Dead letters: entries that could not be decided."""


@dead.command("list")
@json_option
def list_dead_letters(as_json: bool) -> None:
    """List all, the oldest of each partition first: name, reason and fields."""
    found: list[dict[str, Any]] = []
    after = ""
    with open_partitions() as partitions:
        while True:
            page, after = DeadLetters(partitions).page(PAGE, after)
            found += page
            if not after:
                break
    if as_json:
        click.echo(json.dumps(found))
        return
    for each in found:
        click.echo(f"{each['deadLetter']}  {each['reason']}  {json.dumps(each['fields'])}")


@dead.command()
@_name
@json_option
def retry(name: str, as_json: bool) -> None:
    """Put the request of dead letter NAME on the stream again, once its cause is repaired."""
    with open_partitions() as partitions:
        show(DeadLetters(partitions).retry(name), as_json)


@dead.command()
@_name
@json_option
def discard(name: str, as_json: bool) -> None:
    """Discard dead letter NAME: a request that is still pending is refused, its place returns."""
    with open_partitions() as partitions:
        show(DeadLetters(partitions).discard(name), as_json)
