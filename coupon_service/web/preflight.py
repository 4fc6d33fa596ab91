"""The check of Redis and of the settings before a web process serves requests."""

import logging
import re
import sys
from contextlib import suppress
from typing import NoReturn

from redis.exceptions import AuthenticationError, RedisError, ResponseError

from coupon_service.installation import Installation
from coupon_service.migration import UnknownFormat

log = logging.getLogger(__name__)

#: Fields of INFO, their only good value, and what another one means.
_EXPECTED: list[tuple[str, str | int, str]] = [
    ("maxmemory_policy", "noeviction",
     "redis may evict stock and issuance marks: set maxmemory-policy noeviction"),
    ("evicted_keys", 0, "redis has evicted keys: see what `flask coupons reconcile` finds"),
    ("aof_enabled", 1, "redis loses accepted requests when it is restarted: set appendonly yes"),
    ("aof_last_write_status", "ok", "redis could not write its AOF the last time"),
    ("aof_last_bgrewrite_status", "ok", "redis could not rewrite its AOF the last time"),
    ("rdb_last_bgsave_status", "ok", "redis could not save a snapshot the last time"),
    ("role", "master", "redis is a replica: nothing can be requested or issued here"),
    ("cluster_enabled", 0,
     "redis is a cluster node: set COUPON_KEY_PREFIX to a hash tag such as {coupons}:"),
]
#: What makes all keys with this prefix belong to one slot of a cluster.
_HASH_TAG = re.compile(r"[^{]*\{[^}]+\}")

#: Exit code with which a process of gunicorn says that it cannot serve: it is not started again.
CANNOT_SERVE = 3


def check(installation: Installation) -> None:
    """Log one line for each thing that would break a promise of the service: what INFO reports of
    Redis, and a missing admin token.

    Raises:
        SystemExit: the data was written by a later version.
    """
    if not installation.config.admin_token:
        log.warning("COUPON_ADMIN_TOKEN is not set: ANYBODY may register coupons, and nobody may "
                    "list, cancel, delete or export")
    try:
        installation.migration.check()
        info = installation.client.info()
    except UnknownFormat as error:
        cannot_serve(error)
    except AuthenticationError as error:
        log.warning("redis does not accept the user or password in REDIS_URL error=%s", error)
        return
    except ResponseError:
        return  # a provider may refuse INFO: then there is nothing to report
    except RedisError as error:
        log.warning(
            "redis does not answer: start one with `flask up redis`, or set REDIS_URL error=%s",
            error,
        )
        return
    for field, good, text in _EXPECTED:
        tagged = field == "cluster_enabled" and _HASH_TAG.match(installation.config.key_prefix)
        if info.get(field, good) != good and not tagged:
            log.warning("%s (%s:%s)", text, field, info[field])
    with suppress(RedisError):  # CONFIG may be refused too
        fsync = installation.client.config_get("appendfsync").get("appendfsync")
        if info.get("aof_enabled") and fsync == "everysec":
            log.warning("redis can lose what it has acknowledged when it is killed: set "
                        "appendfsync always (appendfsync:everysec)")


def cannot_serve(error: Exception) -> NoReturn:
    """End a process that cannot serve requests; gunicorn does not start it again."""
    log.error("%s", error)
    sys.exit(CANNOT_SERVE)
