"""What a changed expiry and a deletion of a large coupon cost, and what other clients notice."""

import logging
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

from bench.filling import issue, used_memory
from bench.peers import COUPON
from bench.report import Section, table
from bench.scale import Scale
from coupon_service.scripts import Registration
from tests.processes import Server, wait_until, worker
from tests.state import KEYS, coupons_on, operations_on

#: Seconds after which a removal that is not complete is given up.
_GIVEN_UP_S = 600


class Others:
    """Another client, which sends a GET every millisecond, and samples the memory used."""

    def __init__(self, server: Server) -> None:
        self.slowest_ms = 0.0
        self.peak = 0
        self._server = server
        self._sampled, self._done = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._run)

    def _run(self) -> None:
        with self._server.client() as client:
            client.ping()
            while not self._done.wait(0.001):
                started = time.perf_counter()
                client.get(KEYS.stock(COUPON))
                self.slowest_ms = max(self.slowest_ms, 1000 * (time.perf_counter() - started))
                self.peak = max(self.peak, used_memory(client))
                self._sampled.set()

    def __enter__(self) -> "Others":
        self._thread.start()
        assert self._sampled.wait(10)
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._thread.join()


def run(folder: Path, scale: Scale) -> Section:
    """Change the expiry of a coupon of the largest size, then delete it beside an idle worker."""
    logging.disable()
    issued = scale.issued[-1]
    server = Server(folder)
    server.start()
    process = worker(server.url, folder / "worker.log")
    try:
        client = server.client()
        process.stop()
        issue(client, COUPON, issued)
        process.start()
        wait_until(lambda: client.info("clients")["blocked_clients"], "the worker to be idle")
        before = used_memory(client)
        later = datetime.now(UTC) + timedelta(days=1)
        window = {"expiresAt": int(later.timestamp() * 1000)}
        coupons = coupons_on(client)
        quantity = coupons.snapshot(COUPON)["quantity"]
        with Others(server) as others:
            moved_ms = _ms(lambda: coupons.register(Registration(COUPON, quantity, window)))
            time.sleep(0.1)  # for what the change may have left to do
            moved_others_ms = others.slowest_ms
            deleted_ms = _ms(lambda: operations_on(client).delete(COUPON))
            removed_s = _ms(lambda: wait_until(
                lambda: not client.exists(KEYS.removals), "the removal", _GIVEN_UP_S
            )) / 1000
        assert not list(client.scan_iter(KEYS.coupon(COUPON) + "*", count=1000))
    finally:
        process.stop()
        server.stop()
    text = (
        f"A coupon with {issued:,} issuances; one worker that is idle otherwise. Another client "
        "sends a command every millisecond; its slowest reply is told.\n\n"
    ) + table(["", "the call, ms", "slowest reply to another client, ms"], [
        ("change of expiresAt", f"{moved_ms:.1f}", f"{moved_others_ms:.1f}"),
        ("deletion, until the call returns", f"{deleted_ms:.1f}", ""),
        (f"its removal, complete after {removed_s:.1f} s", "", f"{others.slowest_ms:.1f}"),
    ])
    return Section("Removal", text, {
        "ms to change the expiry of a large coupon": [moved_ms],
        "ms to delete a large coupon": [deleted_ms],
        "ms that another client waits meanwhile": [others.slowest_ms],
        "s until a large coupon is removed": [removed_s],
        "memory at its peak meanwhile to before": [others.peak / before],
    })


def _ms(call: Callable[[], object]) -> float:
    started = time.perf_counter()
    call()
    return 1000 * (time.perf_counter() - started)
