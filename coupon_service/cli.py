"""Commands of the `flask` program."""

import sys

import click

from coupon_service.config import DEFAULT_PORT, DEFAULT_REDIS_PORT


@click.command()
@click.argument("processes", nargs=-1, type=click.Choice(["redis", "web", "worker"]))
@click.option("--port", default=DEFAULT_PORT, envvar="PORT", show_default=True)
@click.option("--redis-port", default=DEFAULT_REDIS_PORT, show_default=True)
def up(processes: tuple[str, ...], port: int, redis_port: int) -> None:
    """Run a private Redis server, the API and a worker on this machine.

    Names of PROCESSES run only those. With REDIS_URL set, that server is used.
    """
    try:
        from coupon_service import local
    except ImportError:
        raise click.ClickException("this needs the extra: pip install -e '.[local]'") from None
    sys.exit(local.run(processes, port, redis_port))
