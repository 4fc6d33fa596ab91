"""A connection that is kept, instead of one that a pool hands out for each call."""

import os
from collections.abc import Sequence
from typing import Any

from redis import Redis
from redis.exceptions import ResponseError

#: A command of Redis and its arguments.
Command = tuple[str | int, ...]


class OwnConnection:
    """A connection that is kept for the calls of one thread at a time.

    A pool asks the system about each connection that it hands out, which costs several times what
    the round trip of a script does. Left out, a connection that the server has closed is noticed
    when its reply does not come; that call is repeated, because each script can be. No write is
    tried on it either to learn whether it leads to the primary: the scripts do that.
    """

    def __init__(self, client: Redis) -> None:
        self._pool: Any = client.connection_pool
        self._connection: Any = None
        self._pid = 0

    def round_trip(self, commands: Sequence[Command]) -> list[Any]:
        """Send commands together; return the reply to each, or its error.

        Raises:
            redis.exceptions.RedisError: replies did not come, or a server is not the primary.
        """
        if self._connection is None or self._pid != os.getpid():  # that of the parent is its own
            self._connection, self._pid = self._pool.get_connection(), os.getpid()
        connection = self._connection
        packed = connection.pack_commands(commands)

        def try_once() -> list[Any]:
            connection.send_packed_command(packed, check_health=False)
            return [_reply(connection) for _ in commands]

        try:
            replies: list[Any] = connection.retry.call_with_retry(
                try_once, lambda _: connection.disconnect()
            )
        except BaseException:
            # What comes on it later is the reply to nothing.
            self._connection = None
            connection.disconnect()
            self._pool.release(connection)
            raise
        return replies


def _reply(connection: Any) -> Any:
    try:
        return connection.read_response()
    except ResponseError as error:
        return error
