"""Users who want a coupon and do not give up before they have an answer."""

import http.client
import random
import threading
import time
from collections import Counter

from tests.load import Answer, Client


class Clients:
    """Threads that ask for coupon after coupon, each until it is sold out.

    Every request has an Idempotency-Key and is repeated with it until there is an answer that is
    not 503; now and then it is repeated although there is one. And now and then somebody asks
    and leaves before the answer, never to return.
    """

    def __init__(
        self, url: str, seed: int, connections: int, quantity: int, token: str
    ) -> None:
        self._url, self._seed, self._quantity, self._token = url, seed, quantity, token
        self._done = threading.Event()
        self._coupons = iter(range(1_000_000))
        self._lock = threading.Lock()
        self._coupon = ""
        self.answers: dict[str, list[tuple[str, Answer]]] = {}
        self.abandoned: dict[str, set[str]] = {}
        self.counts: Counter[str] = Counter()
        self.disagreements: list[str] = []
        self._threads = [
            threading.Thread(target=self._run, args=(number,)) for number in range(connections)
        ]

    def start(self) -> None:
        self._next_coupon("")
        for thread in self._threads:
            thread.start()

    def finish(self) -> None:
        """Let everybody get the answer that they wait for, and stop."""
        self._done.set()
        for thread in self._threads:
            thread.join()

    def _next_coupon(self, sold_out: str) -> None:
        with self._lock:
            if sold_out == self._coupon:
                coupon = f"C{next(self._coupons)}"
                self._register(coupon)
                self.answers[coupon], self.abandoned[coupon] = [], set()
                self._coupon = coupon

    def _register(self, coupon: str) -> None:
        self._persist(Client(self._url), "/register",
                      {"couponId": coupon, "quantity": self._quantity},
                      Authorization=f"Bearer {self._token}")

    def _run(self, number: int) -> None:
        chance = random.Random(f"{self._seed}/{number}")
        client = Client(self._url)
        for request in range(1_000_000):
            if self._done.is_set():
                return
            coupon = self._coupon
            user = f"u{chance.randrange(3 * self._quantity)}"
            key = f"{number}-{request}"
            if chance.random() < 0.05:
                self.counts["abandoned"] += 1
                self.abandoned[coupon].add(user)
                client.abandon("/request", {"couponId": coupon, "userId": user})
                continue
            answer = self._ask(client, coupon, user, key)
            self.answers[coupon].append((key, answer))
            if chance.random() < 0.2:
                again = self._ask(client, coupon, user, key)
                if essence(again) != essence(answer):
                    self.disagreements.append(f"{coupon} {user} {key}: {answer} then {again}")
            if answer.code == "sold_out":
                self._next_coupon(coupon)
            elif answer.code == "unknown_coupon":  # a failover has lost the registration
                self._register(coupon)

    def _ask(self, client: Client, coupon: str, user: str, key: str) -> Answer:
        status, body = self._persist(
            client, "/request", {"couponId": coupon, "userId": user}, **{"Idempotency-Key": key}
        )
        return Answer(user, status, body.get("code", "accepted"), body)

    def _persist(self, client: Client, path: str, body: dict, **headers: str):
        while True:
            self.counts["requests"] += 1
            try:
                status, _, answer = client.call("POST", path, body, **headers)
            except (OSError, http.client.HTTPException):
                self.counts["broken connections"] += 1
                time.sleep(0.05)
                continue
            self.counts[str(status)] += 1
            if status != 503:
                return status, answer
            time.sleep(0.1)


def essence(answer: Answer) -> tuple[int, str, object]:
    """What must not change when a request is repeated."""
    return answer.status, answer.code, answer.body.get("requestId")
