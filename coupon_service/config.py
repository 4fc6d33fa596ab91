"""What can be configured, and the only reader of the environment."""

import os
import re
from dataclasses import dataclass, field, fields
from typing import Any

from environs import Env, EnvError
from marshmallow.validate import OneOf, Range, Regexp

from coupon_service.errors import ConfigError

DEFAULT_PORT = 8080
DEFAULT_REDIS_PORT = 6379
DEFAULT_REDIS_URL = f"redis://localhost:{DEFAULT_REDIS_PORT}/0"
#: Partitions of a cluster unless another number is set, and the largest number.
CLUSTER_PARTITIONS, MAX_PARTITIONS = 16, 1024
LOG_LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL")
#: Seconds: a hundred years.
MAX_RETENTION = 100 * 366 * 86_400


def _checked(default: Any, check: Any) -> Any:
    """A field whose value in the environment is to pass `check`."""
    return field(default=default, metadata={"validate": check})


@dataclass(frozen=True)
class Config:
    """Settings of one process; each field is documented in the README's table.

    COUPON_REDIS_TIMEOUT sets `redis_timeout`, and so on for each but `redis_url`, see `_read`.
    """

    redis_url: str = DEFAULT_REDIS_URL
    key_prefix: str = ""
    #: Seconds to wait for one reply of Redis before giving up on it.
    redis_timeout: float = _checked(0.8, Range(0.01, 60))
    #: Whether the certificate of a rediss:// server is checked.
    redis_verify: bool = True
    #: Connections that one process has at the most for each partition, 3 or more.
    redis_connections: int = _checked(32, Range(3, 10_000))
    #: The password of the Sentinels themselves; empty: they have none.
    sentinel_password: str = ""
    #: Number of partitions over which the coupons are spread. It cannot be changed later.
    partitions: int = _checked(1, Range(1, MAX_PARTITIONS))
    #: Replicas that must have an admitted request before it is answered "accepted".
    replicas: int = _checked(0, Range(0, 100))
    #: Seconds to wait for them; less than redis_timeout.
    replicas_timeout: float = _checked(0.4, Range(min=0.001))
    #: Seconds for which a coupon can be looked at after it has expired.
    retention: float = _checked(7 * 86_400, Range(0, MAX_RETENTION))
    #: The password of administrators; empty: nobody can do what only they may.
    admin_token: str = _checked(
        "", Regexp(r"[\x21-\x7e]*\Z", error="visible ASCII characters only")
    )
    #: What users' tokens are verified with: an HS256 secret, or the PEM of an RS256 or ES256 public
    #: key; empty: users have no tokens, and anybody may ask for anybody.
    user_key: str = ""
    #: The aud and the iss that their tokens must have; empty: no aud, any iss.
    user_audience: str = ""
    user_issuer: str = ""
    #: Origins of pages that may call the API from a browser, or `*` for all.
    cors_origins: list[str] = field(default_factory=list)
    #: Coupons that have metrics of their own; those of the others are added up.
    metrics_coupons: int = _checked(100, Range(0, 10_000))
    #: Number of proxies in front whose X-Forwarded-… headers are believed.
    proxies: int = _checked(0, Range(0, 100))
    #: Entries that a worker decides in one round trip.
    worker_batch: int = _checked(200, Range(1, 1000))
    #: Milliseconds after which an entry that another worker holds is taken over.
    claim_idle_ms: int = _checked(15_000, Range(1, 86_400_000))
    #: Name of this worker in its consumer group; empty: host name and process id.
    consumer: str = ""
    #: Newest lines of coupon-log that are kept; 0: all.
    log_keep: int = _checked(0, Range(min=0))
    #: URLs of the sinks to which the log is copied, see ledger/sinks.py.
    ledger: list[str] = field(default_factory=list)
    #: Partitions that this worker serves; empty: all.
    worker_partitions: tuple[int, ...] = ()
    #: text or json.
    log_format: str = _checked("text", OneOf(("text", "json")))
    #: The least level that is logged: DEBUG, INFO, WARNING, ERROR or CRITICAL.
    log_level: str = _checked("INFO", OneOf(LOG_LEVELS))

    @property
    def is_cluster(self) -> bool:
        """Whether the partitions are spread over the nodes of a Redis Cluster."""
        return is_cluster(self.redis_url)

    def prefix(self, partition: int) -> str:
        """Return what stands before the keys of a partition: a hash tag, but for the only one."""
        if self.partitions == 1 and not self.is_cluster:
            return self.key_prefix
        return f"{self.key_prefix}{{{partition}}}:"


def from_environment() -> Config:
    """Read the settings from the environment and from a `.env` file in the current folder.

    Returns:
        The settings; a variable that is not set keeps the default of `Config`.

    Raises:
        ConfigError: a variable has a value that cannot be used; the text names it.
    """
    try:
        return _read(Env())
    except EnvError as error:
        raise ConfigError(str(error)) from None


def _read(env: Env) -> Config:
    env.read_env(os.path.join(os.getcwd(), ".env"), recurse=False)
    url = env.str("REDIS_URL", "") or DEFAULT_REDIS_URL
    defaults = Config(
        url, partitions=CLUSTER_PARTITIONS if is_cluster(url) else Config.partitions
    )
    given: dict[str, Any] = {}
    for each in fields(Config):
        if each.name not in ("redis_url", "worker_partitions"):
            read = getattr(env, each.type.__name__)  # type: ignore[union-attr]
            given[each.name] = read(
                f"COUPON_{each.name.upper()}", getattr(defaults, each.name), **each.metadata
            )
    given["cors_origins"] = _origins(given["cors_origins"])
    chosen = _numbers(env.str("COUPON_WORKER_PARTITIONS", ""), given["partitions"])
    config = Config(url, worker_partitions=chosen, **given)
    if config.replicas and config.replicas_timeout >= config.redis_timeout:
        raise ConfigError("COUPON_REPLICAS_TIMEOUT must be less than COUPON_REDIS_TIMEOUT, after "
                          "which the reply is given up")
    if "{" in config.key_prefix and config.prefix(0) != config.key_prefix:
        raise ConfigError("COUPON_KEY_PREFIX must have no { where partitions have hash tags")
    return config


def is_cluster(url: str) -> bool:
    """Whether the URL is that of a Redis Cluster."""
    return url.partition("://")[0].endswith("+cluster")


def _numbers(given: str, partitions: int) -> tuple[int, ...]:
    """Read numbers of partitions such as `0-7,12`."""
    numbers = set[int]()
    for part in filter(None, given.split(",")):
        found = re.fullmatch(r"\s*(\d+)\s*(?:-\s*(\d+)\s*)?", part)
        first, last = (found[1], found[2] or found[1]) if found else ("0", "-1")
        numbers |= set(chosen := range(int(first), int(last) + 1))
        if not chosen or chosen[-1] >= partitions:
            raise ConfigError(
                f"COUPON_WORKER_PARTITIONS: {part!r} is not within 0-{partitions - 1}"
            )
    return tuple(sorted(numbers))


def _origins(given: list[str]) -> list[str]:
    origins = [origin.strip() for origin in given if origin.strip()]
    for origin in origins:
        # Browsers send it in small letters and without the usual port.
        if not re.fullmatch(r"\*|[a-z][a-z0-9+.-]*://[^\sA-Z/?#@*,]+", origin) or (
            re.match(r"http:.*:80\Z|https:.*:443\Z", origin)
        ):
            raise ConfigError(
                f"COUPON_CORS_ORIGINS: {origin!r} is no origin such as https://shop.example: "
                "scheme and host in small letters, perhaps an unusual port, nothing after them; "
                "or * for all"
            )
    return origins


def environment(**changes: str) -> dict[str, str]:
    """Give the environment for a process to be started, with `changes` made to it."""
    return {**os.environ, **changes}
