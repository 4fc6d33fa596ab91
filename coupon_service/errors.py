"""What can go wrong, in the words that callers see. Nothing here knows of HTTP."""

import re
from types import TracebackType
from typing import ClassVar

from redis import exceptions as redis_errors
from redis.exceptions import RedisError

#: Errors with which a server says that it cannot serve *now*, where redis-py has a class.
_OUTAGES = (
    redis_errors.ConnectionError,  # also wrong passwords, LOADING and a full pool
    redis_errors.TimeoutError,
    redis_errors.ClusterDownError,
    redis_errors.ExecAbortError,
    redis_errors.InvalidResponse,
    redis_errors.NoScriptError,
    redis_errors.OutOfMemoryError,
    redis_errors.ReadOnlyError,
    redis_errors.TryAgainError,  # and AskError: the slot of these keys is moving
    redis_errors.AskError,
)
#: The same where it has none, and for Redis before 7, which hides the code of an error that
#: occurs inside a script in the text.
_OUTAGE = re.compile(
    r"\b(BUSY|LOADING|MIGRATING|MISCONF|NOGROUP|NOREPLICAS|OOM|READONLY|UNBLOCKED)\b"
    # A long command on a connection that should have said its password first.
    r"|unauthenticated multibulk length"
)
#: Error codes that say that the stored data is not what the scripts wrote.
_CORRUPT = re.compile(r"\b(CORRUPT|WRONGTYPE)\b")


def is_outage(error: RedisError) -> bool:
    """Return whether `error` will pass: the same command can succeed later, unchanged."""
    return isinstance(error, _OUTAGES) or bool(_OUTAGE.search(_said_by_server(error)))


def is_corrupt_data(error: RedisError) -> bool:
    """Say whether `error` comes from the stored data, so that no repetition will help."""
    return not is_outage(error) and bool(_CORRUPT.search(_said_by_server(error)))


def is_read_only(error: object) -> bool:
    """Say whether `error` comes from a server that is not the primary any more."""
    return isinstance(error, RedisError) and "READONLY" in _said_by_server(error) or isinstance(
        error, redis_errors.ReadOnlyError
    )


def _said_by_server(error: RedisError) -> str:
    """The text without redis-py's note on the failed command, in which ids occur."""
    return str(error).rpartition(" caused error: ")[2]


class ConfigError(Exception):
    """Raised when a setting cannot be used; the text is one line that names it."""


class CouponError(Exception):
    """A request that is refused.

    `code` is stable and is what clients compare: the name of the class, in the form `sold_out`.
    `str()` of the error is for people; `retry_after` is the number of seconds after which another
    try makes sense, if one does; `details` are further members of the answer, by name.
    """

    code: ClassVar[str]

    def __init_subclass__(cls) -> None:
        cls.code = re.sub(r"(?<!^)(?=[A-Z])", "_", cls.__name__).lower()

    def __init__(self, text: str, retry_after: int | None = None, **details: object) -> None:
        super().__init__(text)
        self.retry_after = retry_after
        self.details = details


class UnknownCoupon(CouponError):
    """Raised when no coupon of this id is registered."""


class SoldOut(CouponError):
    """Raised when every place of the coupon is taken."""


class NotOpen(CouponError):
    """Raised when the coupon cannot be requested yet; `opensAt` says when."""


class Closed(CouponError):
    """Raised when the coupon cannot be requested any more."""


class InvalidWindow(CouponError):
    """Raised unless opensAt < closesAt <= expiresAt, as far as they are given, and the retention
    after expiresAt is not over."""


class Duplicate(CouponError):
    """Raised when the user has a place already; `requestStatus` says pending or issued."""


class QuantityTooLow(CouponError):
    """Raised when a quantity below the places taken is declared."""


class BeingRemoved(CouponError):
    """Raised when a coupon is registered whose id is still being removed."""


class NotRequested(CouponError):
    """Raised when a user has neither a pending nor an issued request for the coupon."""


class UnknownDeadLetter(CouponError):
    """Raised when there is no dead letter of this name."""


class NotPending(CouponError):
    """Raised when a dead letter is retried whose request is pending no more."""


class AdminDisabled(CouponError):
    """Raised when something is asked that needs an admin token, and none is configured."""


class Unauthorized(CouponError):
    """Raised when the admin token is missing or wrong."""


class InvalidToken(CouponError):
    """Raised when the token that says who is asking is not valid."""


class TokenExpired(InvalidToken):
    """Raised when it has expired: the client has to get a new one."""


class TokenMissing(InvalidToken):
    """Raised when there is none."""


class WrongUser(CouponError):
    """Raised when a user asks for another user than the one of the token."""


class CrossSite(CouponError):
    """Raised when the page of another site makes a browser send its cached password."""


class Unavailable(CouponError):
    """Raised when Redis cannot be used at the moment."""


class Misconfigured(CouponError):
    """Raised when Redis refuses a command for good: it is not allowed, or not known."""


class CorruptData(CouponError):
    """Raised when the stored data of a coupon is not what the scripts wrote."""


class corrupt_data_of:  # noqa: N801 (used as a statement)
    """A context that turns what corrupt data of a coupon brings about into `CorruptData`."""

    def __init__(self, coupon_id: str) -> None:
        self._coupon_id = coupon_id

    def __enter__(self) -> None:
        pass

    def __exit__(
        self, kind: type | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        unreadable = isinstance(error, (LookupError, OverflowError, TypeError, ValueError))
        if unreadable or isinstance(error, RedisError) and is_corrupt_data(error):
            raise CorruptData(f"the stored data of {self._coupon_id} is corrupt") from error
