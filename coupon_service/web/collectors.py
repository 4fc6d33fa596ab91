"""The metrics as prometheus-client shows them; docs/operations.md says what each means."""

from collections.abc import Iterator
from itertools import accumulate

from prometheus_client.exposition import choose_encoder
from prometheus_client.metrics_core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector

from coupon_service import __version__
from coupon_service.admin.coupon_totals import COUNTERS, read_totals
from coupon_service.admin.decision_times import BOUNDS_MS, observe
from coupon_service.admin.monitoring import SEEN_WITHIN_MS, Monitoring
from coupon_service.admin.scatter_gather import ask_at_once
from coupon_service.installation import Partitions
from coupon_service.ledger.copier import KINDS
from coupon_service.ledger.status import all_statuses
from coupon_service.snapshot import REFUSALS
from coupon_service.web.http_counters import BOUNDS, HttpCounters

#: What is said of the counters of a coupon.
_HELP = {
    "quantity": "Coupons that can be issued in all.",
    "stock": "Coupons left to issue.",
    "issued": "Coupons issued and not cancelled.",
    "pending": "Requests admitted and not yet decided.",
}


def exposition(
    partitions: Partitions, monitoring: Monitoring, counters: HttpCounters, accept: str
) -> tuple[bytes, str]:
    """Read all metrics.

    Args:
        counters: those of the HTTP answers.
        accept: the Accept header of the request.

    Returns:
        The body, in the format that is asked for, and its content type.
    """
    encode, content_type = choose_encoder(accept)
    return encode(Metrics(partitions, monitoring, counters)), content_type


class Metrics(Collector):
    """All metrics; what a partition that cannot be used would have is missing, but for up."""

    def __init__(
        self, partitions: Partitions, monitoring: Monitoring, counters: HttpCounters
    ) -> None:
        self._partitions = partitions
        self._monitoring = monitoring
        self._counters = counters

    def collect(self) -> Iterator[Metric]:
        """Yield the metrics."""
        yield from self._queues()
        yield from self._decisions()
        yield from self._coupons()
        yield from self._ledgers()
        yield from self._answers()

    def _queues(self) -> Iterator[Metric]:
        build = GaugeMetricFamily(
            "coupon_build_info", "1, and the version that runs.", labels=["version"]
        )
        build.add_metric([__version__], 1)
        yield build

        def gauge(name: str, text: str) -> GaugeMetricFamily:
            return GaugeMetricFamily(name, text, labels=["partition"])

        up = gauge("coupon_redis_up", "Whether the Redis of the partition can be used: 1 or 0.")
        backlog = gauge("coupon_backlog_entries", "Entries that wait for a decision.")
        oldest = gauge("coupon_backlog_oldest_seconds", "Age of the oldest of them, or 0.")
        dead = gauge("coupon_dead_letters", "Entries that could not be decided.")
        workers = gauge("coupon_worker_consumers", f"Workers seen in the last {SEEN_WITHIN_MS} ms.")
        for installation, queue in self._monitoring.queues().items():
            labels = [str(installation.partition)]
            up.add_metric(labels, 0 if queue is None else 1)
            if queue is None:
                continue
            backlog.add_metric(labels, queue.backlog)
            oldest.add_metric(labels, queue.oldest_seconds)
            if queue.dead_letters is not None:
                dead.add_metric(labels, queue.dead_letters)
            if queue.workers is not None:
                workers.add_metric(labels, len(queue.workers))
        yield from (up, backlog, oldest, dead, workers)

    def _decisions(self) -> Iterator[Metric]:
        family = HistogramMetricFamily(
            "coupon_decision_seconds", "Time from a request to its decision.", labels=["partition"]
        )
        for installation, times in ask_at_once(self._partitions, observe).items():
            if times:
                bounds = [bound / 1000 for bound in BOUNDS_MS]
                labels = [str(installation.partition)]
                family.add_metric(labels, _buckets(bounds, times.counts), times.seconds)
        yield family

    def _coupons(self) -> Iterator[Metric]:
        # The label without an id stands for all other coupons.
        totals = read_totals(self._partitions, self._partitions.config.metrics_coupons)
        yield GaugeMetricFamily("coupon_registered", "Coupons registered.", totals.registered)
        shown = [(each["couponId"], each) for each in totals.active]
        for name in COUNTERS:
            gauge = GaugeMetricFamily(f"coupon_{name}", _HELP[name], labels=["coupon_id"])
            for coupon_id, its in [*shown, *([("", totals.others)] if totals.others else [])]:
                gauge.add_metric([coupon_id], its[name])
            yield gauge
        refusals = CounterMetricFamily(
            "coupon_refusals", "Requests refused.", labels=["coupon_id", "reason"]
        )
        for coupon_id, its in shown:
            for reason in REFUSALS:
                refusals.add_metric([coupon_id, reason], its["refusals"][reason])
        yield refusals
        # The sum falls when a coupon leaves it, which a counter must not.
        others = GaugeMetricFamily(
            "coupon_other_refusals", "Requests refused of all other coupons.", labels=["reason"]
        )
        for reason, number in (totals.others or {"refusals": {}})["refusals"].items():
            others.add_metric([reason], number)
        yield others

    def _ledgers(self) -> Iterator[Metric]:
        lag = GaugeMetricFamily(
            "coupon_ledger_lag_seconds", "Age of the first line that a sink does not have, or 0.",
            labels=["sink", "partition"],
        )
        failing = GaugeMetricFamily(
            "coupon_ledger_failing", "Whether a sink is not copied, by kind: 1 or 0.",
            labels=["sink", "partition", "kind"],
        )
        for sink, partition, _, behind, failure, _ in all_statuses(self._partitions):
            lag.add_metric([sink, str(partition)], behind)
            for kind in KINDS:
                failing.add_metric([sink, str(partition), kind], int(kind == failure))
        yield from (lag, failing)

    def _answers(self) -> Iterator[Metric]:
        answers = CounterMetricFamily(
            "coupon_http_requests", "Requests answered.", labels=["route", "method", "status"]
        )
        counted = self._counters.read()
        for labels, count in counted.answers.items():
            answers.add_metric(labels, count)
        yield answers
        family = HistogramMetricFamily(
            "coupon_http_request_seconds", "Time from a request to the head of its answer.",
            labels=["route"],
        )
        for route, durations in counted.durations.items():
            family.add_metric([route], _buckets(BOUNDS, durations.counts), durations.seconds)
        yield family


def _buckets(bounds: list[float] | tuple[float, ...], counts: list[int]) -> list[tuple[str, float]]:
    names = [*(str(float(bound)) for bound in bounds), "+Inf"]
    return list(zip(names, accumulate(counts), strict=True))
