"""Commands of the `flask` program: `flask up` and `flask coupons`."""

import sys
from typing import cast

import click
from redis.exceptions import RedisError

from coupon_service import local
from coupon_service.config import DEFAULT_PORT, DEFAULT_REDIS_PORT, from_environment
from coupon_service.connection import connect
from coupon_service.keys import Keys
from coupon_service.reconcile import Reconciliation
from coupon_service.scripts import Scripts

#: Seconds to wait for one reply: a person waits more patiently than a front end.
TIMEOUT = 5.0
#: Records from which on a progress bar is worth showing.
LONG = 10_000


@click.command()
@click.argument("processes", nargs=-1, type=click.Choice(["redis", "web", "worker"]))
@click.option("--port", default=DEFAULT_PORT, envvar="PORT", show_default=True)
@click.option("--redis-port", default=DEFAULT_REDIS_PORT, show_default=True)
def up(processes: tuple[str, ...], port: int, redis_port: int) -> None:
    """Run a private Redis server, the API and a worker on this machine.

    Names of PROCESSES run only those. With REDIS_URL set, that server is used.
    """
    sys.exit(local.run(processes, port, redis_port))


@click.group()
def coupons() -> None:
    """Look after coupons."""


@coupons.command()
@click.argument("coupon_ids", metavar="[ID]...", nargs=-1)
@click.option("--fix", is_flag=True, help="Mend what can be mended with certainty.")
def reconcile(coupon_ids: tuple[str, ...], fix: bool) -> None:
    """Recount the coupons ID (all by default) from marks, log and stream.

    Shows every disagreement. Exits with 1 if one is left, and with 2 if Redis cannot be used.
    The service may run meanwhile.
    """
    config = from_environment()
    keys = Keys(config.key_prefix)
    client = connect(config.redis_url, TIMEOUT, 1, config.redis_verify)
    scripts = Scripts(client, keys, config.retention)
    left = 0
    try:
        known: list[str] = sorted(cast("set[str]", client.smembers(keys.coupons)))
        if unknown := set(coupon_ids) - set(known):
            raise click.ClickException(f"not registered: {' '.join(sorted(unknown))}")
        records = client.xlen(keys.requests) + 2 * client.xlen(keys.log)
        ids = list(coupon_ids) or known
        with click.progressbar(length=records, file=sys.stderr, hidden=records < LONG) as bar:
            found = list(Reconciliation(client, keys, scripts, ids, bar.update).run(fix))
    except RedisError as error:
        click.echo(f"Error: redis: {error}", err=True)
        sys.exit(2)
    for disagreement in found:
        left += not disagreement.mended
        mended = " (mended)" if disagreement.mended else ""
        click.echo(f"{disagreement.coupon_id}: {disagreement.text}{mended}")
    click.echo(f"{len(ids)} coupons, {len(found)} disagreements, {left} left")
    sys.exit(1 if left else 0)
