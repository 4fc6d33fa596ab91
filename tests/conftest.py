"""One `client` fixture on two servers: fakeredis, and a real one that must be there in CI."""

import os
from collections.abc import Callable, Iterator

import fakeredis
import pytest
from flask.testing import FlaskClient
from hypothesis import HealthCheck, settings
from redis import Redis

from coupon_service.config import Config
from coupon_service.connection import connect
from coupon_service.web.app import create_app
from tests.postgres import Postgres
from tests.processes import Process, Server
from tests.sinks import sink_url  # noqa: F401 (a fixture)
from tests.state import PARTITIONS, AllCoupons, config_with, coupons_on, worker_on
from worker import Worker

# How fast a machine makes examples says nothing of the service.
settings.register_profile(
    "any machine", settings.default, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("any machine")

CONFIG = config_with()
# Also for the processes that the tests start.
os.environ["COUPON_PARTITIONS"] = str(PARTITIONS)


@pytest.fixture(scope="session")
def shared_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    server = Server(tmp_path_factory.mktemp("server"))
    server.start()
    yield server
    server.stop()


@pytest.fixture(scope="session")
def shared_postgres() -> Iterator[Postgres]:
    server = Postgres()
    server.start()
    yield server
    server.remove()


@pytest.fixture
def real_client(shared_server: Server) -> Iterator[Redis]:
    """A client of a real server that is empty."""
    with connect(Config(redis_url=shared_server.url), 5.0, retries=0) as client:
        client.flushall()
        yield client


@pytest.fixture
def fake_client() -> Redis:
    """A client of a server in this process."""
    return fakeredis.FakeRedis(
        decode_responses=True, encoding_errors="surrogateescape", protocol=2
    )


@pytest.fixture(params=["fake", "real"])
def client(request: pytest.FixtureRequest) -> Redis:
    """A client of an empty server."""
    if request.param == "real":
        return request.getfixturevalue("real_client")
    return request.getfixturevalue("fake_client")


@pytest.fixture
def coupons(client: Redis) -> AllCoupons:
    return coupons_on(client)


@pytest.fixture
def worker(client: Redis) -> Worker:
    return worker_on(client)


@pytest.fixture
def http(client: Redis) -> FlaskClient:
    return create_app(CONFIG, client).test_client()


@pytest.fixture
def own_server(tmp_path) -> Iterator[Server]:
    """A server for one test, which may do to it what it likes."""
    folder = tmp_path / "redis"
    folder.mkdir()
    server = Server(folder)
    server.start()
    yield server
    server.stop()


@pytest.fixture
def launch() -> Iterator[Callable[[Process], Process]]:
    """Take over processes that end with the test."""
    yield from _launch()


@pytest.fixture(scope="module")
def launch_for_all() -> Iterator[Callable[[Process], Process]]:
    """Take over processes that end with the tests of a file."""
    yield from _launch()


def _launch() -> Iterator[Callable[[Process], Process]]:
    launched: list[Process] = []

    def take(process: Process) -> Process:
        launched.append(process)
        return process

    yield take
    for process in launched:
        process.stop()
