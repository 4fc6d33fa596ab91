"""Where the primary is: at one address, or where Sentinels or the nodes of a cluster say."""

from collections.abc import Callable
from typing import Any, NamedTuple

from redis import Redis
from redis.crc import key_slot
from redis.exceptions import ConnectionError, RedisError
from redis.sentinel import Sentinel

Address = tuple[str, int]
#: Gives the address of the primary now. Its argument is the address that was tried last: what is
#: there may not answer, so it is asked after all others.
Locate = Callable[[Address], Address]


class Topology(NamedTuple):
    """What REDIS_URL names: `kind` "sentinel" or "cluster", the addresses of the Sentinels or of
    some nodes, the name under which the Sentinels know the primary, and a URL such as redis-py
    understands for everything else."""

    kind: str
    addresses: list[Address]
    service: str
    url: str


def parse(url: str) -> Topology | None:
    """Take apart `redis+sentinel://[user:password@]h1:26379,h2:26379/service/0` or
    `redis+cluster://[user:password@]h1:6379,h2:6379` (`rediss+…` over TLS).

    Returns:
        None for the URL of one server.

    Raises:
        ValueError: it is of that kind, and something is missing or no number.
    """
    scheme, _, rest = url.partition("://")
    scheme, _, kind = scheme.partition("+")
    if not kind:
        return None
    if scheme not in ("redis", "rediss") or kind not in ("sentinel", "cluster"):
        raise ValueError(f"{scheme}+{kind}:// is not known")
    rest, question, query = rest.partition("?")
    netloc, *path = rest.rstrip("/").split("/")
    credentials, at, hosts = netloc.rpartition("@")
    addresses = [_address(host, 26379 if kind == "sentinel" else 6379) for host in hosts.split(",")]
    service = path.pop(0) if kind == "sentinel" and path else ""
    if (kind == "sentinel") != bool(service) or len(path) > (kind == "sentinel"):
        raise ValueError("Sentinels need the name of the primary after their addresses, perhaps "
                         "a database; a cluster has neither")
    plain = f"{scheme}://{credentials}{at}{hosts.split(',')[0]}/{''.join(path)}{question}{query}"
    return Topology(kind, addresses, service, plain)


def _address(text: str, default_port: int) -> Address:
    host, _, port = text.rpartition(":") if ":" in text.rpartition("]")[2] else (text, "", "")
    if not host.strip("[]"):
        raise ValueError("a host is missing")
    return host.strip("[]"), int(port or default_port)


def ask_sentinels(topology: Topology, **options: Any) -> Locate:
    """Make a function that asks the Sentinels, each in turn, where the primary is.

    Args:
        options: for the connections to the Sentinels: timeouts, their password, TLS.
    """
    sentinel: Any = Sentinel(  # type: ignore[no-untyped-call]
        topology.addresses, sentinel_kwargs=options
    )

    def locate(_: Address) -> Address:
        host, port = sentinel.discover_master(topology.service)
        return str(host), int(port)

    return locate


def ask_nodes(topology: Topology, prefix: str, **options: Any) -> Locate:
    """Make a function that asks the nodes, each in turn, which of them is the primary of the slot
    of all keys that begin with `prefix`, a hash tag.

    Nothing is remembered but the nodes: a connection is made rarely, and because something has
    changed.

    Args:
        options: for the connections to the nodes: timeouts, user and password, TLS.
    """
    slot = key_slot(prefix.encode())
    known = topology.addresses

    def locate(last: Address) -> Address:
        nonlocal known
        error: RedisError = ConnectionError(f"no node of the cluster has slot {slot}")
        for host, port in sorted(known, key=lambda address: address == last):
            try:
                with Redis(host, port, **options) as node:
                    slots: list[list[Any]] = node.execute_command("CLUSTER SLOTS")
            except RedisError as failure:
                error = failure
                continue
            # A node that does not know its own address gives none.
            owners = [
                (first, end, [(str(name or host), int(number)) for name, number, *_ in nodes])
                for first, end, *nodes in slots
            ]
            # The one that has answered is asked first the next time.
            found = [(host, port), *(node for _, _, nodes in owners for node in nodes), *known]
            known = list(dict.fromkeys(found))
            for first, end, (primary, *_) in owners:
                if first <= slot <= end:
                    return primary
        raise error

    return locate
