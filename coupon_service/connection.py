"""How the processes connect to Redis."""

from redis import Redis
from redis.backoff import ConstantBackoff
from redis.exceptions import ReadOnlyError
from redis.retry import Retry


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
    unverified = {"ssl_cert_reqs": "none"} if url.startswith("rediss:") and not verify else {}
    client: Redis = Redis.from_url(
        url,
        socket_timeout=timeout,
        socket_connect_timeout=timeout,
        # A primary that became a replica keeps our connections: find the new one.
        retry_on_error=[ReadOnlyError],
        # Stated, because from_url alone would not retry and Redis() would, ten times.
        retry=Retry(ConstantBackoff(0.05), retries),
        protocol=2,
        # Nothing is said at connecting: one more reply to wait for is time in an outage.
        driver_info=None,
        decode_responses=True,
        # Other producers may put any bytes on the stream: one must not make a batch unreadable.
        encoding_errors="surrogateescape",
        **unverified,
    )
    return client
