"""Whether what is asked costs the same at 100 and at 100,000 issuances: `python -m bench.growth`.

Both coupons live on one server at once and are asked in turn, so that whatever else happens on
the machine happens to both. The result is a ratio of medians; below 1.15 it is flat.
"""

import statistics
import tempfile
import time
from pathlib import Path

from flask.testing import FlaskClient
from redis import Redis

from coupon_service.app import create_app
from coupon_service.config import Config
from coupon_service.connection import connect
from coupon_service.coupons import Coupons
from coupon_service.keys import Keys
from coupon_service.outage import Gate
from coupon_service.scripts import Declaration, Scripts
from tests.processes import Server
from worker import Worker

SIZES = {"SMALL": 100, "LARGE": 100_000}
ROUNDS, CALLS = 7, 40
CALLS_OF = {
    "status of a user": "/api/coupons/{}/users/u7",
    "numbers": "/api/coupons/{}",
    "statistics": "/api/coupons/{}/statistics",
    "page of issuances": "/api/coupons/{}/issuances?limit=100",
}


def issue(client: Redis, coupon_id: str, count: int) -> None:
    """Issue `count` coupons through the service's own scripts."""
    keys = Keys()
    coupons = Coupons(client, keys, Scripts(client, keys, Config.retention), Gate())
    coupons.register(Declaration(coupon_id, count))
    worker = Worker(client, Config(worker_batch=1000))
    for number in range(count):
        coupons.request(coupon_id, f"u{number}", f"r{number}")
        if number % 1000 == 999 or number == count - 1:
            while client.xlen(keys.requests):
                worker.run_once()
    assert coupons.numbers(coupon_id)["issued"] == count


def seconds(http: FlaskClient, path: str) -> float:
    """Ask `CALLS` times and give the median time of one call."""
    times = []
    for _ in range(CALLS):
        started = time.perf_counter()
        answer = http.get(path, headers={"Authorization": "Bearer bench"})
        times.append(time.perf_counter() - started)
        assert answer.status_code == 200
    return statistics.median(times)


def main() -> None:
    """Run, and print a row for each call."""
    with tempfile.TemporaryDirectory() as folder:
        server = Server(Path(folder), "--appendfsync", "no")
        server.start()
        try:
            client = connect(server.url, 30, 0)
            for coupon_id, count in SIZES.items():
                issue(client, coupon_id, count)
            http = create_app(Config(admin_token="bench"), client).test_client()
            print("| call | ms at 100 | ms at 100,000 | ratio |\n| --- | --- | --- | --- |")
            for name, path in CALLS_OF.items():
                rounds = [
                    [seconds(http, path.format(coupon_id)) for coupon_id in SIZES]
                    for _ in range(ROUNDS)
                ]
                small, large = (statistics.median(column) for column in zip(*rounds, strict=True))
                print(f"| {name} | {small * 1e3:.2f} | {large * 1e3:.2f} | {large / small:.2f} |")
        finally:
            server.stop()


if __name__ == "__main__":
    main()
