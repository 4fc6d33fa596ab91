"""How the processes connect to Redis."""

from typing import Any
from urllib.parse import urlsplit

from redis import BlockingConnectionPool, Redis
from redis.backoff import ConstantBackoff
from redis.exceptions import ReadOnlyError
from redis.retry import Retry

from coupon_service.config import Config
from coupon_service.errors import ConfigError


def connect(config: Config, timeout: float | None = None, retries: int = 1) -> Redis:
    """Make a client of the Redis in the settings; nothing is sent until its first command.

    Args:
        config: redis_url (`redis://`, `rediss://` or `unix://`), redis_timeout, redis_verify,
            redis_connections.
        timeout: seconds to wait for a connection and for each reply; None: redis_timeout.
        retries: how often a command is sent again when a connection breaks or a reply does
            not come. Each script can be repeated, see the replay line in its header.

    Returns:
        A client that is safe to share between threads and across forks.

    Raises:
        ConfigError: the URL cannot be understood.
    """
    timeout = config.redis_timeout if timeout is None else timeout
    # Nothing is sent at connecting: one more reply to wait for is time in an outage.
    options: dict[str, Any] = {"driver_info": None}
    if config.redis_url.startswith("rediss:"):
        # But over TLS 1.3 the server sends tickets after its handshake. redis-py would take them
        # for an unexpected reply, and give the connection up, if it had not waited for another.
        options = {} if config.redis_verify else {"ssl_cert_reqs": "none"}
    try:
        pool = BlockingConnectionPool.from_url(
            config.redis_url,
            max_connections=config.redis_connections,
            timeout=timeout,
            socket_timeout=timeout,
            socket_connect_timeout=timeout,
            # A primary that became a replica keeps our connections: find the new one.
            retry_on_error=[ReadOnlyError],
            # Stated, because from_url alone would not retry and Redis() would, ten times.
            retry=Retry(ConstantBackoff(0.05), retries),
            protocol=2,
            decode_responses=True,
            # Other producers may put any bytes on the stream: one must not make a batch
            # unreadable.
            encoding_errors="surrogateescape",
            **options,
        )
        # redis-py looks at the query only when it connects, and takes a name for database 0.
        pool.connection_class(**pool.connection_kwargs)
        path = urlsplit(config.redis_url).path.strip("/")
        if path and not config.redis_url.startswith("unix:"):
            int(path)
    except (TypeError, ValueError) as error:
        raise ConfigError(
            "REDIS_URL must be like redis://localhost:6379/0, rediss://… or unix://… "
            f"({error})"
        ) from None
    client: Redis = Redis(connection_pool=pool)
    return client
