"""What can be configured, and the only reader of the environment."""

import os
from dataclasses import dataclass, field

from environs import Env, validate

DEFAULT_PORT = 8080
DEFAULT_REDIS_PORT = 6379
DEFAULT_REDIS_URL = f"redis://localhost:{DEFAULT_REDIS_PORT}/0"


@dataclass(frozen=True)
class Config:
    """Settings of one process; each field is documented in the README's table."""

    redis_url: str = DEFAULT_REDIS_URL
    key_prefix: str = ""
    #: Seconds to wait for one reply of Redis before giving up on it.
    redis_timeout: float = 0.8
    #: Whether the certificate of a rediss:// server is checked.
    redis_verify: bool = True
    #: Seconds for which a coupon can be looked at after it has expired.
    retention: float = 7 * 86_400
    #: The password of administrators; empty: nobody can do what only they may.
    admin_token: str = ""
    #: Origins of pages that may call the API from a browser.
    cors_origins: list[str] = field(default_factory=list)
    #: Number of proxies in front whose X-Forwarded-… headers are believed.
    proxies: int = 0
    #: Entries that a worker decides in one round trip.
    worker_batch: int = 100
    #: Milliseconds after which an entry that another worker holds is taken over.
    claim_idle_ms: int = 15_000
    #: Name of this worker in its consumer group; empty: host name and process id.
    consumer: str = ""


def from_environment() -> Config:
    """Read the settings from the environment and from a `.env` file in the current folder.

    Returns:
        The settings; a variable that is not set keeps the default of `Config`.

    Raises:
        environs.EnvError: a variable has a value that cannot be used; the text names it.
    """
    env = Env()
    env.read_env(os.path.join(os.getcwd(), ".env"), recurse=False)
    return Config(
        redis_url=env.str("REDIS_URL", DEFAULT_REDIS_URL) or DEFAULT_REDIS_URL,
        key_prefix=env.str("COUPON_KEY_PREFIX", Config.key_prefix),
        redis_timeout=env.float(
            "COUPON_REDIS_TIMEOUT", Config.redis_timeout, validate=validate.Range(min=0.01)
        ),
        redis_verify=env.bool("COUPON_REDIS_VERIFY", Config.redis_verify),
        retention=env.float(
            "COUPON_RETENTION", Config.retention, validate=validate.Range(min=0)
        ),
        admin_token=env.str(
            "COUPON_ADMIN_TOKEN", Config.admin_token,
            validate=validate.Regexp(r"[\x21-\x7e]*\Z", error="visible ASCII characters only"),
        ),
        cors_origins=env.list("COUPON_CORS_ORIGINS", []),
        proxies=env.int("COUPON_PROXIES", Config.proxies, validate=validate.Range(min=0)),
        worker_batch=env.int(
            "COUPON_WORKER_BATCH", Config.worker_batch, validate=validate.Range(1, 1000)
        ),
        claim_idle_ms=env.int(
            "COUPON_CLAIM_IDLE_MS", Config.claim_idle_ms, validate=validate.Range(min=1)
        ),
        consumer=env.str("COUPON_CONSUMER", Config.consumer),
    )


def environment(**changes: str) -> dict[str, str]:
    """Give the environment for a process to be started, with `changes` made to it."""
    return {**os.environ, **changes}
