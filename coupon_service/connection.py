"""How the processes connect to Redis."""

from typing import Any

from redis import BlockingConnectionPool, Redis
from redis.backoff import ConstantBackoff
from redis.exceptions import ReadOnlyError
from redis.retry import Retry

from coupon_service.config import Config

#: Connections of one process; all admissions of a process share one.
MAX_CONNECTIONS = 32


def connect(config: Config, timeout: float | None = None, retries: int = 1) -> Redis:
    """Make a client of the Redis in the settings; nothing is sent until its first command.

    Args:
        config: redis_url (`redis://`, `rediss://` or `unix://`), redis_timeout, redis_verify.
        timeout: seconds to wait for a connection and for each reply; None: redis_timeout.
        retries: how often a command is sent again when a connection breaks or a reply does
            not come. Each script can be repeated, see the replay line in its header.

    Returns:
        A client that is safe to share between threads and across forks.

    Raises:
        ValueError: the URL cannot be understood.
    """
    timeout = config.redis_timeout if timeout is None else timeout
    # Nothing is sent at connecting: one more reply to wait for is time in an outage.
    options: dict[str, Any] = {"driver_info": None}
    if config.redis_url.startswith("rediss:"):
        # But over TLS 1.3 the server sends tickets after its handshake. redis-py would take them
        # for an unexpected reply, and give the connection up, if it had not waited for another.
        options = {} if config.redis_verify else {"ssl_cert_reqs": "none"}
    client: Redis = Redis(connection_pool=BlockingConnectionPool.from_url(
        config.redis_url,
        # A thread that finds all of them in use waits for one as long as for a reply.
        max_connections=MAX_CONNECTIONS,
        timeout=timeout,
        socket_timeout=timeout,
        socket_connect_timeout=timeout,
        # A primary that became a replica keeps our connections: find the new one.
        retry_on_error=[ReadOnlyError],
        # Stated, because from_url alone would not retry and Redis() would, ten times.
        retry=Retry(ConstantBackoff(0.05), retries),
        protocol=2,
        decode_responses=True,
        # Other producers may put any bytes on the stream: one must not make a batch unreadable.
        encoding_errors="surrogateescape",
        **options,
    ))
    return client
