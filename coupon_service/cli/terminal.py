"""What the commands on Redis share: the data they work on, their output, their exit codes."""

import json
import re
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from typing import Any

import click
from redis.exceptions import RedisError

from coupon_service.cli.local_server import url_of_running
from coupon_service.config import environment, from_environment
from coupon_service.errors import ConfigError, CouponError, is_corrupt_data
from coupon_service.installation import Partitions
from coupon_service.migration import UnusableData

#: Seconds to wait for one reply: a person waits more patiently than a front end.
TIMEOUT = 5.0
#: Exit codes; click uses 2 for wrong usage.
REFUSED, UNAVAILABLE = 1, 3


@contextmanager
def open_partitions() -> Iterator[Partitions]:
    """Give the data that the settings name; end with one line for what it raises."""
    try:
        config = from_environment()
        if not environment().get("REDIS_URL"):
            config = replace(config, redis_url=url_of_running() or config.redis_url)
            click.echo(f"REDIS_URL is not set: using {config.redis_url}", err=True)
        partitions = Partitions(config, timeout=TIMEOUT)
        for each in partitions:
            with suppress(RedisError):  # said where it matters
                each.migration.check()
                each.migration.record_partitions()
        yield partitions
    except CouponError as error:
        cause = f" ({error.__cause__})" if error.__cause__ else ""
        click.echo(f"Error: {error.code}: {error}{cause}", err=True)
        sys.exit(UNAVAILABLE if error.code == "unavailable" else REFUSED)
    except RedisError as error:
        # Of something that concerns all coupons, such as the log.
        code = "corrupt_data" if is_corrupt_data(error) else "unavailable"
        click.echo(f"Error: {code}: {error}", err=True)
        sys.exit(UNAVAILABLE)
    except (ConfigError, UnusableData) as error:
        raise click.ClickException(str(error)) from None


def matching(pattern: str) -> Callable[..., Any]:
    """Make a callback of click that refuses what does not match `pattern` in full."""
    def check(_context: Any, _parameter: Any, value: str) -> str:
        if not re.fullmatch(pattern, value):
            raise click.BadParameter(f"{value!r} is not valid")
        return value

    return check


def show(answer: Any, as_json: bool) -> None:
    """Print an answer for people, a line for each member, or as JSON."""
    if as_json:
        click.echo(json.dumps(answer))
        return
    for name, value in answer.items():
        click.echo(f"{name:14} {_text(value)}")


def _text(value: Any) -> str:
    if isinstance(value, dict):
        return " ".join(f"{name}={_text(each)}" for name, each in value.items())
    return "-" if value is None else str(value)


json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
