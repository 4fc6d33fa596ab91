"""The check of Redis and of the settings before a web process serves requests."""

import logging
import re
import sys
from contextlib import suppress
from typing import NoReturn

from redis.exceptions import AuthenticationError, RedisError, ResponseError

from coupon_service.admin.scatter_gather import ask_at_once
from coupon_service.errors import corrupt_data_of
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
#: What is said while there is no admin token.
NO_TOKEN = ("COUPON_ADMIN_TOKEN is not set: ANYBODY may register coupons, and nobody may list, "
            "cancel, delete or export")
#: What makes all keys with this prefix belong to one slot of a cluster.
_HASH_TAG = re.compile(r"[^{]*\{[^}]+\}")

#: Exit code with which a process of gunicorn says that it cannot serve: it is not started again.
CANNOT_SERVE = 3


def check(partitions: Partitions) -> None:
    """Log one line for each thing that would break a promise of the service: what INFO reports of
    Redis, and a missing admin token. Let the data say how many partitions there are.

    Raises:
        SystemExit: the data was written by a later version, or with other partitions.
    """
    if not partitions.config.admin_token:
        log.warning("%s", NO_TOKEN)
    # What several servers have in common is said once.
    for line in dict.fromkeys(line for each in partitions for line in _check(each)):
        log.warning("%s", line)


def warnings(partitions: Partitions) -> list[str]:
    """Return the lines that `check` would log now of the partitions that can be used."""
    def ask(installation: Installation) -> list[str]:
        with corrupt_data_of("the format"), installation.bulkhead:
            try:
                return _findings(installation)
            except UnusableData as error:
                return [str(error)]

    asked = ask_at_once(partitions, ask).values()
    token = [] if partitions.config.admin_token else [NO_TOKEN]
    return list(dict.fromkeys([*token, *(line for found in asked for line in found or ())]))


def _check(installation: Installation) -> list[str]:
    try:
        found = _findings(installation)
    except UnusableData as error:
        cannot_serve(error)
    except AuthenticationError as error:
        return [f"redis does not accept the user or password in REDIS_URL error={error}"]
    except ResponseError:
        return []  # a provider may refuse INFO: then there is nothing to report
    except RedisError as error:
        return ["redis does not answer: start one with `flask up redis`, or set REDIS_URL "
                f"error={error}"]
    with suppress(RedisError):  # which has been said
        installation.migration.record_partitions()
    return found


def _findings(installation: Installation) -> list[str]:
    """Return a line for each thing that would break a promise.

    Raises:
        UnusableData: the data was written by a later version, or with other partitions.
        redis.exceptions.RedisError: Redis cannot be used, or refuses INFO.
    """
    config = installation.config
    installation.migration.check()
    info = installation.client.info()
    found = []
    for field, good, text in _EXPECTED:
        ours = field == "cluster_enabled" and (
            config.is_cluster or config.partitions == 1 and _HASH_TAG.match(config.key_prefix)
        )
        if info.get(field, good) != good and not ours:
            found.append(f"{text} ({field}:{info[field]})")
    if info.get("connected_slaves", config.replicas) < config.replicas:
        found.append(f"COUPON_REPLICAS is {config.replicas}, and redis has "
                     f"{info['connected_slaves']} replicas: nothing will be accepted")
    with suppress(RedisError):  # CONFIG may be refused too
        fsync = installation.client.config_get("appendfsync").get("appendfsync")
        if info.get("aof_enabled") and fsync == "everysec":
            found.append("redis can lose what it has acknowledged when it is killed: set "
                         "appendfsync always (appendfsync:everysec)")
    return found


def cannot_serve(error: Exception) -> NoReturn:
    """End a process that cannot serve requests; gunicorn does not start it again."""
    log.error("%s", error)
    sys.exit(CANNOT_SERVE)
