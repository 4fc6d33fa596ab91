"""The check of Redis and of the settings before a web process serves requests."""

import logging
import re
import sys
from collections.abc import Iterator
from contextlib import suppress
from typing import NoReturn

from redis.exceptions import AuthenticationError, RedisError, ResponseError

from coupon_service.installation import Installation, Partitions
from coupon_service.migration import UnusableData

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
     "redis is a cluster node: use redis+cluster:// in REDIS_URL"),
]
#: What makes all keys with this prefix belong to one slot of a cluster.
_HASH_TAG = re.compile(r"[^{]*\{[^}]+\}")

#: Exit code with which a process of gunicorn says that it cannot serve: it is not started again.
CANNOT_SERVE = 3


def check(partitions: Partitions) -> None:
    """Log one line for each thing that would break a promise of the service: what INFO reports of
    Redis, and a missing admin token.

    Raises:
        SystemExit: the data was written by a later version, or with other partitions.
    """
    if not partitions.config.admin_token:
        log.warning("COUPON_ADMIN_TOKEN is not set: ANYBODY may register coupons, and nobody may "
                    "list, cancel, delete or export")
    # What several servers have in common is said once.
    for line in dict.fromkeys(line for each in partitions for line in _findings(each)):
        log.warning("%s", line)


def _findings(installation: Installation) -> Iterator[str]:
    config = installation.config
    try:
        installation.migration.check()
        info = installation.client.info()
    except UnusableData as error:
        cannot_serve(error)
    except AuthenticationError as error:
        yield f"redis does not accept the user or password in REDIS_URL error={error}"
        return
    except ResponseError:
        return  # a provider may refuse INFO: then there is nothing to report
    except RedisError as error:
        yield ("redis does not answer: start one with `flask up redis`, or set REDIS_URL "
               f"error={error}")
        return
    for field, good, text in _EXPECTED:
        ours = field == "cluster_enabled" and (
            config.is_cluster or config.partitions == 1 and _HASH_TAG.match(config.key_prefix)
        )
        if info.get(field, good) != good and not ours:
            yield f"{text} ({field}:{info[field]})"
    if info.get("connected_slaves", config.replicas) < config.replicas:
        yield (f"COUPON_REPLICAS is {config.replicas}, and redis has {info['connected_slaves']} "
               "replicas: nothing will be accepted")
    with suppress(RedisError):  # which has been said
        installation.migration.record_partitions()
    with suppress(RedisError):  # CONFIG may be refused too
        fsync = installation.client.config_get("appendfsync").get("appendfsync")
        if info.get("aof_enabled") and fsync == "everysec":
            yield ("redis can lose what it has acknowledged when it is killed: set "
                   "appendfsync always (appendfsync:everysec)")


def cannot_serve(error: Exception) -> NoReturn:
    """End a process that cannot serve requests; gunicorn does not start it again."""
    log.error("%s", error)
    sys.exit(CANNOT_SERVE)
