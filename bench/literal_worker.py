"""The worker of what this service continues, taken by the word: entry after entry."""

import logging
import os
from contextlib import suppress

from redis import BlockingConnectionPool, Redis
from redis.backoff import NoBackoff
from redis.exceptions import ResponseError
from redis.retry import Retry

STREAM, GROUP = "coupon-requests", "issuers"
ISSUE = """
local stock = tonumber(redis.call('GET', KEYS[1]))
if not stock or stock <= 0 then return 0 end
if redis.call('SETNX', KEYS[2], 'issued') == 1 then
  redis.call('DECR', KEYS[1])
  return 1
else
  return 2
end
"""
WORDS = ("sold_out", "issued", "duplicate")


def client() -> Redis:
    """Connect with the same choices as the service, so that none of them makes a difference."""
    return Redis(connection_pool=BlockingConnectionPool.from_url(
        os.environ["REDIS_URL"], max_connections=50, timeout=30, decode_responses=True,
        protocol=2, driver_info=None, retry=Retry(NoBackoff(), 1),
    ))


def main() -> None:
    """Decide requests for ever."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    redis = client()
    issue = redis.register_script(ISSUE)
    with suppress(ResponseError):  # it is there already
        redis.xgroup_create(STREAM, GROUP, id="0", mkstream=True)
    while True:
        for _, entries in redis.xreadgroup(GROUP, "worker", {STREAM: ">"}, count=1, block=500):
            for entry_id, entry in entries:
                coupon_id, user_id = entry["couponId"], entry["userId"]
                verdict = issue(
                    keys=[f"coupon:{coupon_id}:stock", f"coupon:{coupon_id}:user:{user_id}"]
                )
                logging.info("couponId=%s userId=%s decision=%s",
                             coupon_id, user_id, WORDS[verdict])
                redis.xack(STREAM, GROUP, entry_id)


if __name__ == "__main__":
    main()
