"""A PostgreSQL server for the tests, where its programs are installed."""

import os
import shutil
import subprocess
import tempfile
from itertools import count
from pathlib import Path

from tests.processes import HOST, Process, free_port, wait_until


def _programs() -> Path | None:
    places = [Path("/usr/lib/postgresql") / version / "bin" for version in ("17", "16", "15")]
    if found := shutil.which("initdb"):
        places.insert(0, Path(found).resolve().parent)
    return next((place for place in places if (place / "initdb").exists()), None)


PROGRAMS = _programs()
#: In CI it must be there.
MISSING = not PROGRAMS and not os.environ.get("CI")
REASON = "PostgreSQL is not installed"
#: It refuses to run as root: Debian's package makes this user.
_AS_USER = ["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups"]


class Postgres(Process):
    """A server with data of its own, that can be killed and started again."""

    def __init__(self) -> None:
        self.data = Path(tempfile.mkdtemp(prefix="postgres-"))
        self.port = free_port()
        self._user = _AS_USER if os.geteuid() == 0 else []
        if self._user:
            shutil.chown(self.data, "postgres", "postgres")
        self._run("initdb", "-D", str(self.data / "db"), "-A", "trust", "-U", "tests")
        self._names = count()
        super().__init__(
            [*self._user, str(PROGRAMS / "postgres"), "-D", str(self.data / "db"), "-p",
             str(self.port), "-c", f"listen_addresses={HOST}", "-c", "unix_socket_directories="],
            self.data / "log", self.data,
        )

    def start(self) -> "Postgres":
        super().start()
        wait_until(self._answers, f"PostgreSQL to answer\n{self.output()}")
        return self

    def database(self) -> str:
        """Make a database; return its URL."""
        name = f"test{next(self._names)}"
        self._run("createdb", "-h", HOST, "-p", str(self.port), "-U", "tests", name)
        return f"postgresql://tests@{HOST}:{self.port}/{name}"

    def execute(self, url: str, statement: str) -> None:
        """Run a statement in a database, whose name goes in for `%s`."""
        database = url.rpartition("/")[2]
        self._run("psql", "-h", HOST, "-p", str(self.port), "-U", "tests", "-d", database,
                  "-v", "ON_ERROR_STOP=1", "-c", statement.replace("%s", database))

    def remove(self) -> None:
        self.stop()
        shutil.rmtree(self.data)

    def _answers(self) -> bool:
        if self.popen.poll() is not None:
            super().start()  # it refuses to run while sessions of the one that was killed end
        asked = [PROGRAMS / "pg_isready", "-q", "-h", HOST, "-p", str(self.port), "-U", "tests"]
        return subprocess.run(asked).returncode == 0

    def _run(self, program: str, *arguments: str) -> None:
        subprocess.run(
            [*self._user, PROGRAMS / program, *arguments], check=True, capture_output=True, cwd="/"
        )
