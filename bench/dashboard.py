"""What the dashboard costs Redis: the counts of a decision, and each of its polls."""

import logging
import statistics
import time
from pathlib import Path
from typing import Any
from unittest.mock import patch

from flask.testing import FlaskClient
from redis import Redis

from bench.filling import issue
from bench.peers import COUPON, PLENTY
from bench.report import Section, ratios, spread, table
from bench.scale import Scale
from coupon_service import scripts
from coupon_service.admin.series import SLOTS, SPANS
from coupon_service.config import Config
from coupon_service.connection import connect
from coupon_service.installation import Installation
from coupon_service.keys import GROUP
from coupon_service.scripts import Registration, Request
from coupon_service.web.app import create_app
from tests.processes import Server
from tests.state import KEYS, scripts_on

BATCH = 100
#: Batches of each kind that are decided in a round, and polls.
BATCHES, POLLS = 40, 100
#: How often a batch is counted where counting is measured: once is less than what varies.
TIMES = 10
FEW, MANY, LARGE = 10, 1000, "many issuances"
PATHS = {"overview": "", "one coupon": f"/coupons/{COUPON}", "system": "/system"}


def run(folder: Path, scale: Scale) -> Section:
    """Measure the decisions on a server of their own, then the polls on one for each size."""
    logging.disable()
    sizes = {
        f"{FEW:,} coupons": (FEW, 1000), f"{MANY:,} coupons": (MANY, 1000),
        LARGE: (FEW, scale.issued[-1]),
    }
    servers: list[Server] = []
    try:
        for name in ("decisions", *sizes):
            (folder / name).mkdir()
            servers.append(Server(folder / name, "--appendfsync", "no"))
            servers[-1].start()
        clients = [connect(Config(redis_url=server.url), 30, 0) for server in servers]
        without, often = _decisions(clients[0], scale.rounds)
        for client, (coupons, issuances) in zip(clients[1:], sizes.values(), strict=True):
            _fill(client, coupons, issuances)
        polls = _polls(clients[1:], scale.rounds)
        series = clients[-1].memory_usage(KEYS.series(COUPON), samples=0)
    finally:
        for server in servers:
            server.stop()
    added = [(a - b) / TIMES for a, b in zip(often, without, strict=True)]
    text = "\n\n".join([
        f"A decision in a batch of {BATCH} takes Redis {spread(without, '.2f')} µs where "
        f"`issue.lua` counts nothing, {spread(often, '.2f')} µs where it counts each batch {TIMES} "
        f"times: {statistics.median(added):.2f} µs for once. A series takes {series / 1024:.0f} "
        f"KiB at the most. Many issuances are {scale.issued[-1]:,} of one coupon.",
        table(["µs of Redis for a poll", *sizes], [
            (name, *(f"{statistics.median(its):.0f}" for its in polls[name])) for name in PATHS
        ]),
    ])
    few, *larger = sizes
    return Section("Dashboard", text, {
        "µs of Redis that counting adds to a decision": added,
        **{
            f"Redis for {name} at {size} to {few}": ratios(of_size, its[0])
            for name, its in polls.items()
            for size, of_size in zip(larger, its[1:], strict=True)
        },
    })


def _decisions(client: Redis, rounds: int) -> list[list[float]]:
    """Give µs of a decision of each round, without counts and with TIMES as many as there are."""
    scripts_on(client).register([Registration(COUPON, PLENTY)])
    client.xgroup_create(KEYS.requests, GROUP, id="0", mkstream=True)
    source, line = scripts.source, "  count(series, granted, 0)\n"
    assert source("issue").count(line) == 1, "issue.lua counts in another way"
    variants = []
    for lines in ("", line * TIMES):
        variants.append(Installation(Config(), client))
        with patch.object(scripts, "source", lambda name: source(name).replace(line, lines)):
            _decide(variants[-1], f"loads the script {len(variants)}")
    times: list[list[float]] = [[] for _ in variants]
    for number in range(rounds):
        its: list[list[float]] = [[] for _ in variants]
        for batch in range(BATCHES):
            for row, variant in enumerate(variants):
                its[row].append(_decide(variant, f"{number} {batch} {row}"))
        for row, each in enumerate(its):
            times[row].append(statistics.median(each))
    return times


def _decide(installation: Installation, batch: str) -> float:
    """Give µs of a decision in a batch of new users."""
    client: Any = installation.client
    requests = [Request(COUPON, f"{batch} {number}", f"r{number:015}") for number in range(BATCH)]
    assert installation.coupon_scripts.admit(requests) == [["accepted"]] * BATCH
    [[_, entries]] = client.xreadgroup(GROUP, "bench", {KEYS.requests: ">"}, count=BATCH)
    requests = [request._replace(entry_id=entry[0])
                for request, entry in zip(requests, entries, strict=True)]
    before = _evalsha_us(client)
    replies = installation.worker_scripts.issue(requests)
    assert replies == [[1, "issued"]] * BATCH
    return (_evalsha_us(client) - before) / BATCH


def _evalsha_us(client: Any) -> float:
    return float(client.info("commandstats")["cmdstat_evalsha"]["usec"])


def _fill(client: Redis, coupons: int, issuances: int) -> None:
    """Make coupons, one of them with so many issuances and the longest series that there is."""
    scripts_on(client).register([Registration(f"C{number}", 100) for number in range(coupons - 1)])
    issue(client, COUPON, issuances)
    now = int(time.time())
    client.hset(KEYS.series(COUPON), mapping={
        f"{span}:{at // span % SLOTS}": f"{at // span * span} 1000 0"
        for span in SPANS for at in range(now - (SLOTS - 1) * span, now + 1, span)
    })


def _polls(clients: list[Redis], rounds: int) -> dict[str, list[list[float]]]:
    """Give µs of CPU of each server for each poll, in turn, by round."""
    https = [create_app(Config(admin_token="t"), client).test_client() for client in clients]
    used: dict[str, list[list[float]]] = {name: [[] for _ in clients] for name in PATHS}
    for _ in range(rounds):
        for name, path in PATHS.items():
            for row, (client, http) in enumerate(zip(clients, https, strict=True)):
                used[name][row].append(_poll(client, http, path))
    return used


def _poll(client: Redis, http: FlaskClient, path: str) -> float:
    before = _cpu_us(client)
    for _ in range(POLLS):
        answer = http.get(f"/api/dashboard{path}", headers={"Authorization": "Bearer t"})
        assert answer.status_code == 200
    return (_cpu_us(client) - before) / POLLS


def _cpu_us(client: Any) -> float:
    info = client.info("cpu")
    return float(info["used_cpu_user"] + info["used_cpu_sys"]) * 1e6
