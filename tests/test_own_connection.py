"""A connection that is kept gives each call its own replies, whatever became of it before."""

import os

import pytest
from redis.exceptions import ConnectionError, ResponseError

from coupon_service.connection import connect
from coupon_service.own_connection import OwnConnection
from tests.state import config_with


@pytest.fixture
def own(shared_server, real_client):
    with connect(config_with(redis_url=shared_server.url)) as client:
        yield OwnConnection(client)


def client_id(own):
    return own.round_trip([("CLIENT", "ID")])[0]


def test_replies_and_errors_come_in_their_order(own):
    first, error, last = own.round_trip([("SET", "a", 1), ("HGET", "a", "b"), ("GET", "a")])
    assert (first, last) == ("OK", "1")
    assert isinstance(error, ResponseError) and "WRONGTYPE" in str(error)


def test_calls_share_a_connection_until_it_is_closed_by_the_server(own, real_client):
    before = client_id(own)
    assert client_id(own) == before
    real_client.client_kill_filter(_id=before)
    assert own.round_trip([("ECHO", "a")]) == ["a"]
    assert client_id(own) != before


def test_reply_of_an_interrupted_call_is_not_that_of_the_next(own, monkeypatch):
    client_id(own)

    def interrupted(connection, *args, **options):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr("redis.connection.Connection.read_response", interrupted)
        with pytest.raises(KeyboardInterrupt):
            own.round_trip([("ECHO", "a")])
    assert own.round_trip([("ECHO", "b")]) == ["b"]


def test_failed_call_leaves_its_place_in_the_pool(own_server):
    with connect(config_with(redis_url=own_server.url, redis_connections=3)) as client:
        own = OwnConnection(client)
        client_id(own)
        own_server.stop()
        for _ in range(5):
            with pytest.raises(ConnectionError, match="refused|closed"):
                own.round_trip([("ECHO", "a")])


def test_process_that_was_forked_has_one_of_its_own(own):
    before = client_id(own)
    reader, writer = os.pipe()
    if not (child := os.fork()):
        os.write(writer, str(client_id(own)).encode())
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
    assert int(os.read(reader, 20)) not in (0, before)
    assert client_id(own) == before
