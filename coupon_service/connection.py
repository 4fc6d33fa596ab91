"""How the processes connect to Redis."""

import time
from contextlib import suppress
from typing import Any
from urllib.parse import urlsplit

from redis import BlockingConnectionPool, Redis
from redis.backoff import ConstantBackoff
from redis.connection import Connection, parse_url
from redis.exceptions import (
    ClusterDownError,
    ConnectionError,
    MovedError,
    RedisError,
    ResponseError,
)
from redis.retry import Retry

from coupon_service import topology
from coupon_service.config import Config
from coupon_service.errors import ConfigError, is_read_only
from coupon_service.keys import Keys

#: Seconds for which a connection may read what a server knows that is no primary any more.
STALE_FOR = 1.0


class NotPrimary(ConnectionError):
    """Raised when a server says that it is not, or not any more, the primary of what is asked."""


class PrimaryConnection:
    """What is added to a connection of redis-py so that it leads to the primary.

    Where that is is asked whenever it connects, also after a time-out. A server that says it is not
    the primary ends the connection and what was under way on it, as if it were lost: so one retry
    finds the new primary, and no pipeline keeps the errors of the old one among its replies. It
    says so only of a write, so one is tried now and then: DEL of a key that there never is.
    """

    host: str
    port: int

    def __init__(
        self, locate: topology.Locate | None = None, never: str = "", **options: Any
    ) -> None:
        super().__init__(**options)
        self._locate, self._never = locate, never
        self._try_write_at = 0.0
        self._tries_write = False

    def _connect(self) -> Any:
        if self._locate:
            self.host, self.port = self._locate((self.host, self.port))
        self._try_write_at, self._tries_write = time.monotonic() + STALE_FOR, False
        return super()._connect()  # type: ignore[misc]

    def check_health(self) -> None:
        """Called by redis-py before it sends a command."""
        if time.monotonic() >= self._try_write_at:
            self._try_write_at, self._tries_write = time.monotonic() + STALE_FOR, True
            self.send_command("DEL", self._never, check_health=False)  # type: ignore[attr-defined]

    def read_response(self, *args: Any, **options: Any) -> Any:
        """Return a reply, as the connection of redis-py does."""
        if self._tries_write:
            self._tries_write = False
            with suppress(ResponseError):  # what else is wrong is wrong with the command as well
                self._read(*args, **options)
        return self._read(*args, **options)

    def _read(self, *args: Any, **options: Any) -> Any:
        try:
            return super().read_response(*args, **options)  # type: ignore[misc]
        except ResponseError as error:
            if not isinstance(error, (MovedError, ClusterDownError)) and not is_read_only(error):
                raise
            self.disconnect()  # type: ignore[attr-defined]
            raise NotPrimary(str(error)) from error


def connect(
    config: Config, timeout: float | None = None, retries: int = 1, partition: int = 0
) -> Redis:
    """Make a client of the Redis in the settings; nothing is sent until its first command.

    Args:
        config: redis_url (see `topology.parse` for what redis-py does not know), redis_timeout,
            redis_verify, redis_connections, sentinel_password.
        timeout: seconds to wait for each reply, and twice those for a connection; None:
            redis_timeout.
        retries: how often a command is sent again when a connection breaks or a reply does
            not come. Each script can be repeated, see the replay line in its header.
        partition: the partition to whose primary the connections of a cluster lead.

    Returns:
        A client that is safe to share between threads and across forks.

    Raises:
        ConfigError: the URL cannot be understood.
    """
    timeout = config.redis_timeout if timeout is None else timeout
    try:
        found = topology.parse(config.redis_url)
        options = _options(found.url if found else config.redis_url, config, timeout)
        base = options.pop("connection_class", Connection)
        pool: Any = BlockingConnectionPool(  # type: ignore[no-untyped-call]
            connection_class=type(f"Primary{base.__name__}", (PrimaryConnection, base), {}),
            locate=_locate(found, config, timeout, partition, options) if found else None,
            never=Keys(config.prefix(partition)).never,
            # Stated, because a pool alone would not retry and Redis() would, ten times.
            retry=Retry(ConstantBackoff(0.05), retries),
            **{"max_connections": config.redis_connections, "timeout": timeout, **options},
        )
        # redis-py looks at the query of the URL only when it connects.
        pool.connection_class(**pool.connection_kwargs)
    except (RedisError, TypeError, ValueError) as error:
        raise ConfigError(
            "REDIS_URL must be like redis://localhost:6379/0, rediss://…, unix://…, "
            f"redis+sentinel://host,host/name/0 or redis+cluster://host,host ({error})"
        ) from None
    client: Redis = Redis(connection_pool=pool)
    return client


def _options(url: str, config: Config, timeout: float) -> dict[str, Any]:
    database = urlsplit(url).path.strip("/")
    if database and not url.startswith("unix:"):
        int(database)  # redis-py takes a name for database 0
    options: dict[str, Any] = {
        "socket_timeout": timeout,
        # A reply that does not come, and two tries to connect, must not take three times as long.
        "socket_connect_timeout": timeout / 2,
        "protocol": 2,
        "decode_responses": True,
        # Other producers may put any bytes on the stream: one must not make a batch unreadable.
        "encoding_errors": "surrogateescape",
    }
    if not url.startswith("rediss:"):
        # Nothing is sent at connecting: one more reply to wait for is time in an outage. But over
        # TLS 1.3 the server sends tickets after its handshake, which redis-py would take for an
        # unexpected reply, and give the connection up, if it had not waited for another.
        options["driver_info"] = None
    elif not config.redis_verify:
        options["ssl_cert_reqs"] = "none"
    return {**options, **parse_url(url)}  # type: ignore[no-untyped-call]


def _locate(
    found: topology.Topology, config: Config, timeout: float, partition: int,
    options: dict[str, Any],
) -> topology.Locate:
    """Where the primary is must be known long before a reply of it is given up."""
    asked = {
        name: value for name, value in options.items() if name.startswith("ssl_")
    } | {
        "ssl": found.url.startswith("rediss:"), "protocol": 2, "decode_responses": True,
        "socket_timeout": timeout / 2, "socket_connect_timeout": timeout / 2,
        "retry": Retry(ConstantBackoff(0), 0),
    }
    if found.kind == "sentinel":
        password = config.sentinel_password or None
        return topology.ask_sentinels(found, password=password, **asked)
    asked |= {name: options[name] for name in ("username", "password") if name in options}
    return topology.ask_nodes(found, config.prefix(partition), **asked)
