"""`flask ledger`: copies of the log outside Redis."""

import json
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import chain
from threading import Event, Thread
from typing import Any

import click
from redis.exceptions import RedisError

from coupon_service import logs
from coupon_service.cli.terminal import REFUSED, UNAVAILABLE, json_option, open_partitions
from coupon_service.installation import Installation, Partitions
from coupon_service.ledger.accept import accept as accept_loss
from coupon_service.ledger.accept import lost_lines
from coupon_service.ledger.copier import Copier
from coupon_service.ledger.errors import GoneBack, SinkError
from coupon_service.ledger.line import to_json
from coupon_service.ledger.sinks import Sink, open_sinks
from coupon_service.ledger.status import forget as forget_sink
from coupon_service.ledger.status import statuses
from coupon_service.stream import parts

#: Seconds that `verify` waits for the copiers to copy what was logged meanwhile.
PATIENCE = 10.0
#: Seconds that a step has to end after a signal; it may be ended anywhere.
GRACE = 5.0


@click.group()
def ledger() -> None:
    """Copy the log out of Redis, to the sinks that COUPON_LEDGER names.

    Exit codes: 0 done, 1 refused or different, 2 wrong usage, 3 Redis or a sink cannot be used.
    """


@ledger.command()
def follow() -> None:
    """Copy until SIGTERM or SIGINT, and wait through every outage."""
    stopping = Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stopping.set())
    with _opened() as (partitions, sinks):
        logs.configure(partitions.config)
        # A slow sink, or a partition that is down, must delay no other.
        threads = [
            Thread(target=Copier(installation, sink).run, args=(stopping,), daemon=True)
            for sink in sinks for installation in partitions
        ]
        for thread in threads:
            thread.start()
        stopping.wait()
        deadline = time.monotonic() + GRACE
        for thread in threads:
            thread.join(max(deadline - time.monotonic(), 0))


@ledger.command()
def copy() -> None:
    """Copy what is logged up to now, and end."""
    with _opened() as (partitions, sinks):
        ends = {each: _last_id(each) for each in partitions}
        lines = len(sinks) * sum(int(_client(each).xlen(each.keys.log)) for each in partitions)
        with click.progressbar(length=lines, file=sys.stderr) as bar:
            failures = [
                text for sink in sinks for installation, end in ends.items()
                if (text := _copy(Copier(installation, sink), end, bar.update))
            ]
    for text in failures:
        click.echo(f"Error: {text}", err=True)
    sys.exit(UNAVAILABLE if failures else 0)


def _copy(copier: Copier, end: str, advance: Callable[[int], object]) -> str:
    """Copy up to the id `end`; return what it fails with."""
    try:
        while parts(copier.cursor) < parts(end) and (copied := copier.step()):
            advance(copied)
    except (GoneBack, RedisError, SinkError) as error:
        return f"{copier.sink.name}{copier.installation.label}: {error}"
    return ""


@ledger.command()
@json_option
def status(as_json: bool) -> None:
    """Show the cursor, the lag (s) and the error of each sink and partition."""
    with open_partitions() as partitions:
        found = [each for installation in partitions for each in statuses(installation)]
    if as_json:
        click.echo(json.dumps([each._asdict() for each in found]))
        return
    for sink, partition, cursor, lag, kind, error in sorted(found):
        failure = f"  {kind}: {error}" if kind else ""
        click.echo(f"{sink}  partition={partition} cursor={cursor} lag={lag:.1f}{failure}")


@ledger.command()
@click.argument("name")
def forget(name: str) -> None:
    """Retire the sink NAME: it holds back no trimming any more. Its lines stay where they are."""
    with open_partitions() as partitions:
        if name in (sink.name for sink in open_sinks(partitions.config)):
            raise click.ClickException(f"{name} is in COUPON_LEDGER: take it out there first")
        if not any([forget_sink(installation, name) for installation in partitions]):
            raise click.ClickException(f"{name} is not known, see `flask ledger status`")


@ledger.command()
@click.argument("name")
@click.option("--yes", is_flag=True, help="Do not ask.")
def accept(name: str, yes: bool) -> None:
    """Let the sink NAME go on after Redis has gone back; shows the lines that Redis has lost, and
    asks.

    The process that copies to a file has to be stopped first.
    """
    with _opened() as (partitions, sinks):
        sink = _named(sinks, name)
        lost = {each: lost_lines(each, sink) for each in partitions}
        for line in chain.from_iterable(lost.values()):
            click.echo(to_json(line))
        if any(lost.values()) and not yes:
            click.confirm("Has Redis lost these lines for good?", abort=True)
        for installation, lines in lost.items():
            if lines:
                accept_loss(installation, sink, lines)
    click.echo(f"{sum(map(len, lost.values()))} lines are lost", err=True)


@ledger.command()
@click.argument("name", required=False)
def verify(name: str | None) -> None:
    """Compare the sinks, or the one called NAME, with Redis, and show each difference.

    The service may run meanwhile, and must copy. The process that copies to a file may too.
    """
    from coupon_service.ledger.verify import differences, queryable

    different = False
    with _opened() as (partitions, sinks):
        for sink in [_named(sinks, name)] if name else sinks:
            found: list[str] = []
            for first in (True, False):
                # What is moving is a difference once, and not when it has been copied.
                behind = _wait_for(sink, partitions)
                with queryable(sink, range(partitions.config.partitions)) as (table, now):
                    now += [f"partition {each.partition} is behind" for each in behind]
                    for installation in set(partitions) - behind:
                        now += differences(installation, table)
                found = [text for text in now if first or text in found]
                if not found:
                    break
            for text in found:
                click.echo(f"{sink.name}: {text}")
            click.echo(f"{sink.name}: {len(found)} differences")
            different = different or bool(found)
    sys.exit(REFUSED if different else 0)


@contextmanager
def _opened() -> Iterator[tuple[Partitions, list[Sink]]]:
    with open_partitions() as partitions:
        sinks = open_sinks(partitions.config)
        if not sinks:
            raise click.ClickException("COUPON_LEDGER is not set: there is no ledger")
        try:
            yield partitions, sinks
        except (GoneBack, SinkError) as error:
            click.echo(f"Error: {error}", err=True)
            sys.exit(UNAVAILABLE)
        finally:
            for sink in sinks:
                sink.close()


def _named(sinks: list[Sink], name: str) -> Sink:
    for sink in sinks:
        if sink.name == name:
            return sink
    raise click.ClickException(
        f"COUPON_LEDGER has no {name}, but {', '.join(sink.name for sink in sinks)}"
    )


def _wait_for(sink: Sink, partitions: Partitions) -> set[Installation]:
    """Wait until a running copier has copied what is logged now; return the partitions of which it
    has not, in time."""
    deadline, behind = time.monotonic() + PATIENCE, set()
    for installation in partitions:
        end = parts(_last_id(installation))
        while not (last := sink.last(installation.partition)) or parts(last.log_id) < end:
            if end == (0, 0):
                break
            if time.monotonic() > deadline:
                behind.add(installation)
                break
            time.sleep(0.1)
    return behind


def _last_id(installation: Installation) -> str:
    newest = _client(installation).xrevrange(installation.keys.log, count=1)
    return str(newest[0][0]) if newest else "0-0"


def _client(installation: Installation) -> Any:
    return installation.client
