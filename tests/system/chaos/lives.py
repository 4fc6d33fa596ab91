"""Coupons that are registered, requested, deleted or left to expire, and registered again."""

import http.client
import random
import threading
import time
from collections import Counter
from datetime import UTC, datetime, timedelta

from redis.exceptions import RedisError

from coupon_service.scripts import Request
from tests.load import Client
from tests.state import decided

#: More than a deletion removes by itself, so that workers have pages to remove.
SEEDED = 1_200
QUANTITY = 1_500


class Lives:
    """One thread for each coupon ends its lives and begins new ones, another requests it.

    A life ends when the coupon is unknown: no line of the log after `ends[coupon][n]` is an
    issuance of life n.
    """

    def __init__(self, url: str, data, seed: int, token: str, coupons=("L0", "L1")) -> None:
        """`data` gives the Partitions, through connections to the servers themselves."""
        self._url, self._data, self._seed, self._token = url, data, seed, token
        self._done = threading.Event()
        self.coupons = coupons
        self.ends: dict[str, list[str]] = {coupon: [] for coupon in coupons}
        self.accepted: dict[str, set[str]] = {coupon: set() for coupon in coupons}
        self.counts: Counter[str] = Counter()
        self._threads = [
            threading.Thread(target=run, args=(coupon,))
            for coupon in coupons for run in (self._live, self._request)
        ]

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def finish(self) -> None:
        """End the last lives, and stop."""
        self._done.set()
        for thread in self._threads:
            thread.join()

    def _live(self, coupon: str) -> None:
        chance = random.Random(f"{self._seed}/{coupon}")
        for life in range(1_000_000):
            expires = chance.random() < 0.5
            self._register(coupon, chance.uniform(0.5, 2) if expires else None)
            self._admit_many(coupon, life)
            if expires:
                self.counts["expiries"] += 1
                # A poll: the counters of a coupon may be those of a demoted primary for a second.
                while self._call("GET", f"/{coupon}/users/-")[1]["code"] != "unknown_coupon":
                    time.sleep(0.05)
            else:
                time.sleep(chance.uniform(0.1, 1.5))
                self.counts["deletions"] += 1
                self._call("DELETE", f"/{coupon}")  # 404: the reply to the first try was lost
            self.ends[coupon].append(self._last_line(coupon))
            if self._done.is_set():
                return

    def _register(self, coupon: str, seconds: float | None) -> None:
        while True:
            expires_at = datetime.now(UTC) + timedelta(seconds=seconds or 0)
            status, body = self._call("POST", "/register", {
                "couponId": coupon, "quantity": QUANTITY,
                "expiresAt": expires_at.isoformat() if seconds else None,
            })
            if status == 200:
                self.counts["registrations"] += 1
                return
            # Either its removal is under way, or the request came when it was over.
            assert body["code"] in ("being_removed", "invalid_window"), body
            self.counts[body["code"]] += 1
            time.sleep(0.05)

    def _admit_many(self, coupon: str, life: int) -> None:
        for start in range(0, SEEDED, 400):
            requests = [
                Request(coupon, f"seed{number}", f"{life}-seed{number}")
                for number in range(start, start + 400)
            ]
            replies = self._on_server(coupon, lambda its: its.coupon_scripts.admit(requests))
            for request, reply in zip(requests, replies, strict=True):
                if reply == ["accepted"]:
                    self.accepted[coupon].add(request.request_id)

    def _request(self, coupon: str) -> None:
        chance = random.Random(f"{self._seed}/requests/{coupon}")
        for number in range(1_000_000):
            if self._done.is_set():
                return
            key = f"request-{number}"
            status, _ = self._call(
                "POST", "/request", {"couponId": coupon, "userId": f"u{chance.randrange(900)}"},
                **{"Idempotency-Key": key},
            )
            if status == 200:
                self.accepted[coupon].add(key)
            time.sleep(0.002)

    def _last_line(self, coupon: str) -> str:
        log = self._on_server(coupon, lambda its: its.client.xinfo_stream(its.keys.log))
        return str(log["last-generated-id"])

    def _on_server(self, coupon: str, call):
        """Call with the installation that has the coupon until there is a reply."""
        while True:
            try:
                reply = call(self._data().of(coupon))
                if not (isinstance(reply, list) and any(isinstance(x, RedisError) for x in reply)):
                    return reply
            except RedisError:
                pass
            time.sleep(0.05)

    def _call(self, method: str, path: str, body: dict | None = None, **headers: str):
        """Call the API until there is an answer that is not 503."""
        authorization = {"Authorization": f"Bearer {self._token}"}
        client = Client(self._url)
        while True:
            try:
                status, _, answer = client.call(method, path, body, **authorization, **headers)
            except (OSError, http.client.HTTPException):
                time.sleep(0.05)
                continue
            if status != 503:
                client.close()
                return status, answer
            time.sleep(0.1)

    def check(self) -> None:
        """Every life kept the promise, and nothing is left of those that are over."""
        data = self._data()
        lines = {coupon: [] for coupon in self.coupons}
        for log_id, line in decided(data):
            if line["couponId"] in lines:
                lines[line["couponId"]].append((_parts(log_id), line))
        for coupon, ends in self.ends.items():
            client, keys = data.of(coupon).client, data.of(coupon).keys
            assert client.zrange(keys.removals, 0, -1) == []
            assert list(client.scan_iter(keys.coupon(coupon) + "*", count=1000)) == []
            logged = {line["requestId"] for _, line in lines[coupon]}
            assert self.accepted[coupon] <= logged, "an accepted request was not decided"
            after = (0, 0)
            for end in map(_parts, ends):
                issued = [
                    line for log_id, line in lines[coupon]
                    if after < log_id <= end and line["decision"] == "issued"
                ]
                assert len(issued) <= QUANTITY
                for name in ("userId", "requestId"):
                    twice = Counter(line[name] for line in issued).most_common(1)
                    assert not twice or twice[0][1] == 1, (coupon, end, twice)
                after = end
            late = [line for log_id, line in lines[coupon] if log_id > after]
            assert {line["decision"] for line in late} <= {"unknown_coupon"}
            twice = Counter(
                (line["requestId"], line["entryId"]) for _, line in lines[coupon]
            ).most_common(1)
            assert twice[0][1] == 1, "a decision is logged twice"


def _parts(stream_id: str) -> tuple[int, ...]:
    return tuple(map(int, stream_id.split("-")))
