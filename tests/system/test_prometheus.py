"""A real Prometheus reads a sale with the configuration and the rules of docs/."""

import json
import os
import re
import signal
import subprocess
import time
import urllib.parse
import urllib.request
from contextlib import suppress
from typing import NamedTuple
from urllib.parse import urlsplit

import pytest

from tests.exposition import TOKEN
from tests.load import Client, ask_all
from tests.processes import HOST, ROOT, Process, Server, free_port, gunicorn, tool, wait_until
from tests.processes import worker as start_worker
from tests.state import backlog, coupons_on, decided

pytestmark = pytest.mark.long
RULES = ROOT / "docs" / "alerts.yml"
SECRET = TOKEN["Authorization"].partition(" ")[2]


def test_alert_rules_are_valid():
    checked = subprocess.run(
        [tool("promtool"), "check", "rules", RULES], capture_output=True, text=True
    )
    assert checked.returncode == 0, checked.stdout + checked.stderr
    assert f"SUCCESS: {RULES.read_text().count('- alert:')} rules found" in checked.stdout


def scrape_configuration():
    """The scrape configuration that docs/operations.md shows."""
    page = (ROOT / "docs" / "operations.md").read_text(encoding="utf-8")
    [block] = re.findall(r"```yaml\n(scrape_configs:.*?)```", page, re.DOTALL)
    return block


#: For how long the sale goes on, beside the time that it takes anyway.
SALE_SECONDS = float(os.environ.get("SALE_SECONDS") or 0)


class Prometheus:
    """A Prometheus that reads `address` once a second, which is its timeout too."""

    def __init__(self, folder, address, launch):
        (folder / "token").write_text(SECRET)
        rules = re.sub(r"for: \w+", "for: 1s", RULES.read_text(encoding="utf-8"))
        (folder / "alerts.yml").write_text(rules, encoding="utf-8")
        scrape = scrape_configuration().replace("/etc/prometheus/coupon-token", "token")
        scrape = scrape.replace("coupons.example:8080", address)
        (folder / "prometheus.yml").write_text(
            "global: {scrape_interval: 1s, evaluation_interval: 200ms}\n"
            f"rule_files: [alerts.yml]\n{scrape}", encoding="utf-8",
        )
        port = free_port()
        self._url = f"http://{HOST}:{port}/api/v1"
        launch(Process(
            [tool("prometheus"), f"--web.listen-address={HOST}:{port}",
             "--config.file=prometheus.yml", "--storage.tsdb.path=data"],
            folder / "prometheus.log", folder,
        ).start())
        wait_until(self._answers, "Prometheus to answer")
        # It begins to scrape some seconds after its start, and its alert of that is right.
        wait_until(lambda: self.value("min(coupon_redis_up)") == 1, "the first scrape")
        wait_until(lambda: not self.firing(), "no alert to fire")

    def _answers(self):
        with suppress(OSError):  # HTTPError 503 included, while it starts
            return self._get("alerts")

    def _get(self, path, **query):
        url = f"{self._url}/{path}?{urllib.parse.urlencode(query)}"
        with urllib.request.urlopen(url) as answer:
            return json.load(answer)["data"]

    def value(self, expression):
        """The value of an expression that has one, or None."""
        found = self._get("query", query=expression)["result"]
        return float(found[0]["value"][1]) if found else None

    def firing(self):
        return {
            alert["labels"]["alertname"] for alert in self._get("alerts")["alerts"]
            if alert["state"] == "firing"
        }


class Watched(NamedTuple):
    server: Server
    url: str
    worker: Process
    prometheus: Prometheus


@pytest.fixture(scope="module")
def watched(launch_for_all, tmp_path_factory):
    """The API, a worker, and the Prometheus that watches them, which needs seconds to begin."""
    folder = tmp_path_factory.mktemp("prometheus")
    server = launch_for_all(Server(tmp_path_factory.mktemp("redis")).start())
    api, url = gunicorn(server.url, folder / "web.log", COUPON_ADMIN_TOKEN=SECRET)
    launch_for_all(api)
    worker = launch_for_all(start_worker(server.url, folder / "worker.log"))
    prometheus = Prometheus(folder, urlsplit(url).netloc, launch_for_all)
    return Watched(server, url, worker, prometheus)


def test_counters_in_prometheus_are_those_in_redis_after_a_sale(watched):
    _, url, _, prometheus = watched
    client = watched.server.client()
    asked = 'sum(coupon_http_requests_total{route="/api/coupons/request"})'
    admitted = asked.replace("}", ',status="200"}')
    before = prometheus.value(asked) or 0, prometheus.value(admitted) or 0
    users = Client(url)
    for coupon_id, quantity in (("A", 300), ("B", 20)):
        users.register(coupon_id, quantity, SECRET)
    answers = []
    for coupon_id, names in (*(("A", range(n, n + 20)) for n in range(0, 400, 20)),
                             ("B", range(50)), ("A", range(100))):
        answers += ask_all(url, coupon_id, [f"u{name}" for name in names], connections=16)
        time.sleep(SALE_SECONDS / 22)
    wait_until(lambda: not backlog(client), "the worker to decide")
    for coupon_id in ("A", "B"):
        snapshot = coupons_on(client).snapshot(coupon_id)
        for name in ("quantity", "stock", "issued", "pending"):
            expression = f'coupon_{name}{{coupon_id="{coupon_id}"}}'
            wait_until(lambda e=expression, n=name, s=snapshot: prometheus.value(e) == s[n],
                       f"{expression} to be {snapshot[name]}")
        for reason, count in snapshot["refusals"].items():
            expression = f'coupon_refusals_total{{coupon_id="{coupon_id}",reason="{reason}"}}'
            wait_until(lambda e=expression, c=count: prometheus.value(e) == c, expression)
    for expression, expected in (
        ("sum(coupon_backlog_entries)", 0),
        ("sum(coupon_decision_seconds_count)", len(decided(client))),
        (asked, before[0] + len(answers)),
        (admitted, before[1] + 320),
        ("min(coupon_redis_up)", 1),
    ):
        wait_until(lambda e=expression, x=expected: prometheus.value(e) == x,
                   f"{expression} to be {expected}")
    assert sum(line["couponId"] in ("A", "B") for _, line in decided(client)) == 320
    assert prometheus.firing() == set()


def test_alert_fires_when_requests_wait_and_the_worker_is_stopped(watched, launch_for_all):
    server, url, worker, prometheus = watched
    client = server.client()
    Client(url).register("C", 10, SECRET)
    Client(url).ask("C", "first")
    wait_until(lambda: coupons_on(client).snapshot("C")["issued"] == 1, "the worker to issue")
    worker.signal(signal.SIGTERM)
    assert worker.wait() == 0
    Client(url).ask("C", "second")
    assert backlog(client) == 1
    wait_until(lambda: prometheus.firing() == {"CouponNoWorker"}, "the alert to fire")
    launch_for_all(start_worker(server.url, worker.log.with_name("worker2.log")))
    wait_until(lambda: not prometheus.firing(), "the alert to end")
    assert coupons_on(client).snapshot("C")["issued"] == 2
