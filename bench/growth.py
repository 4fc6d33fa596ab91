"""Whether what is asked costs the same, however much was issued and however many coupons there are.

Each size has a server of its own, and they are asked in turn, so that whatever else happens on
the machine happens to all. The result is the ratio to the smallest, in each round. It depends on
the allocator of the server's memory, so each of them is measured.
"""

import logging
import statistics
import time
from collections.abc import Callable
from itertools import count
from pathlib import Path
from typing import NamedTuple

from redis import Redis

from bench.filling import issue, programs, server_of
from bench.peers import COUPON
from bench.report import Section, ratios, spread, table
from bench.scale import Scale
from coupon_service.admin.operations import Operations
from coupon_service.config import Config
from coupon_service.connection import connect
from coupon_service.coupons import Coupons
from coupon_service.scripts import Registration, Request
from tests.processes import Server
from tests.state import KEYS, coupons_on, operations_on, scripts_on, worker_on
from worker import Worker

CALLS, BATCH = 100, 100

_new = count()


class Service(NamedTuple):
    """What is asked, on one server."""

    server: Server
    coupons: Coupons
    operations: Operations
    worker: Worker
    client: Redis


def request(service: Service) -> None:
    """A new user asks."""
    number = next(_new)
    service.coupons.request(COUPON, f"new{number}", f"request{number:08}")


def decision(service: Service) -> float:
    """A worker decides a batch; gives the µs that this took for each."""
    while service.client.xlen(KEYS.requests):
        service.worker.run_once()
    requests = [Request(COUPON, f"new{next(_new)}", "r") for _ in range(BATCH)]
    assert scripts_on(service.client).admit(requests) == [["accepted"]] * BATCH
    started = time.perf_counter()
    assert service.worker.run_once() == BATCH
    return 1e6 * (time.perf_counter() - started) / BATCH


CALLS_OF: dict[str, Callable[[Service], object]] = {
    "request": request,
    "status of a user": lambda service: service.coupons.user(COUPON, "user7"),
    "snapshot": lambda service: service.coupons.snapshot(COUPON),
    "statistics": lambda service: service.operations.statistics(COUPON),
    "page of issuances": lambda service: service.operations.issuances(COUPON, 100),
}


def run(folder: Path, scale: Scale) -> Section:
    """Measure every call at every size, with each allocator."""
    logging.disable()
    texts, figures = [], dict[str, list[float]]()
    for allocator, program in programs().items():
        for what, sizes, fill in (
            ("issued", scale.issued, lambda client, size: issue(client, COUPON, size)),
            ("campaigns", scale.campaigns, _campaigns),
        ):
            services: list[Service] = []
            try:
                for size in sizes:
                    services.append(_service(program, folder / f"{allocator}-{what}{size}"))
                    fill(services[-1].client, size)
                times = _measure(services, scale.rounds)
            finally:
                for service in services:
                    service.server.stop()
            rows = []
            for name, its in times.items():
                grown = [ratios(each, its[0]) for each in its]
                rows.append([name, *(
                    f"{spread(each, '.1f')}; {statistics.median(to_least):.2f}"
                    for each, to_least in zip(its, grown, strict=True)
                )])
                figures[f"{name} at the most {what} to the least, {allocator}"] = grown[-1]
            texts.append(table(
                [f"{allocator}, µs; to the least", *(f"{size:,} {what}" for size in sizes)], rows
            ))
    return Section("Growth", "\n\n".join(texts), figures)


def _service(program: str, folder: Path) -> Service:
    server = server_of(program, folder, "--appendfsync", "no")
    client = connect(Config(redis_url=server.url), 30, 0)
    return Service(
        server, coupons_on(client), operations_on(client),
        worker_on(client, worker_batch=BATCH), client,
    )


def _campaigns(client: Redis, size: int) -> None:
    issue(client, COUPON, 100)
    declarations = [Registration(f"C{number}", 100) for number in range(size - 1)]
    for start in range(0, len(declarations), 1000):
        scripts_on(client).register(declarations[start:start + 1000])


def _measure(services: list[Service], rounds: int) -> dict[str, list[list[float]]]:
    """Give the µs of each call: on each service, in each round."""
    times: dict[str, list[list[float]]] = {
        name: [[] for _ in services] for name in (*CALLS_OF, "decision")
    }
    for _ in range(rounds):
        for row, service in enumerate(services):
            for name, call in CALLS_OF.items():
                times[name][row].append(_microseconds(call, service))
            times["decision"][row].append(statistics.median(decision(service) for _ in range(10)))
    return times


def _microseconds(call: Callable[[Service], object], service: Service) -> float:
    taken = []
    for _ in range(CALLS):
        started = time.perf_counter()
        call(service)
        taken.append(time.perf_counter() - started)
    return 1e6 * statistics.median(taken)
