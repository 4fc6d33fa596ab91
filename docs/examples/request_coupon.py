"""Requests a coupon and waits for the decision; needs `pip install requests`.

Usage: request_coupon.py <URL of the API> <couponId> <userId> [token]
"""

import sys
import time
import uuid

import requests
from requests.adapters import HTTPAdapter
from urllib3.util import Retry

api, coupon, user, *token = sys.argv[1:]
session = requests.Session()
# A request is safe to repeat, because it carries a key: 503 and broken connections are.
retry = Retry(5, backoff_factor=0.1, status_forcelist=[503], allowed_methods=None)
session.mount(api, HTTPAdapter(max_retries=retry))
if token:
    session.headers["Authorization"] = f"Bearer {token[0]}"

answer = session.post(
    f"{api}/api/coupons/request", json={"couponId": coupon, "userId": user},
    headers={"Idempotency-Key": uuid.uuid4().hex}, timeout=5,
)
if answer.status_code != 200:
    sys.exit(f"refused: {answer.json()['code']}")
location, request = api + answer.headers["Location"], answer.json()
while request["status"] == "pending":
    time.sleep(request["pollAfterMs"] / 1000)
    answer = session.get(location, timeout=5)
    answer.raise_for_status()
    request = answer.json()
print(request["status"])
