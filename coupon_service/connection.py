"""How the processes connect to Redis."""

from typing import Any

from redis import BlockingConnectionPool, Redis
from redis.backoff import ConstantBackoff
from redis.exceptions import ReadOnlyError
from redis.retry import Retry

#: Connections of one process; an admission needs one for all that wait at the same moment.
MOST_CONNECTIONS = 32


def connect(url: str, timeout: float, retries: int, verify: bool = True) -> Redis:
    """Make a client; nothing is sent until its first command.

    Args:
        url: `redis://`, `rediss://` or `unix://`.
        timeout: seconds to wait for a connection and for each reply.
        retries: how often a command is sent again when a connection breaks or a reply does
            not come. Each of our scripts can be repeated, see the replay line in its head.
        verify: whether the certificate of a `rediss://` server is checked.

    Returns:
        A client that is safe to share between threads and across forks.

    Raises:
        ValueError: the URL cannot be understood.
    """
    # Nothing is said at connecting: one more reply to wait for is time in an outage.
    options: dict[str, Any] = {"driver_info": None}
    if url.startswith("rediss:"):
        # But over TLS 1.3 the server sends tickets after its handshake. redis-py would take them
        # for an unexpected reply, and give the connection up, if it had not waited for another.
        options = {} if verify else {"ssl_cert_reqs": "none"}
    client: Redis = Redis(connection_pool=BlockingConnectionPool.from_url(
        url,
        # Who finds all of them in use waits for one as long as for a reply.
        max_connections=MOST_CONNECTIONS,
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
