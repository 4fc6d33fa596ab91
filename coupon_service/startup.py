"""What an operator should know of Redis when a process starts."""

import logging

from redis import Redis
from redis.exceptions import RedisError

log = logging.getLogger(__name__)


def check(client: Redis) -> None:
    """Log one line for each thing about Redis that would break a promise of the service."""
    try:
        client.ping()
    except RedisError as error:
        log.warning(
            "redis does not answer: start one with `flask up redis`, or set REDIS_URL error=%s",
            error,
        )
