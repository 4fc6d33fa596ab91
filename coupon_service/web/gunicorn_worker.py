"""The gunicorn worker class of the API: gevent's server, which closes silent connections."""

from typing import Any

from gunicorn.workers.ggevent import GeventPyWSGIWorker, PyWSGIHandler

#: Seconds of silence after which a connection is closed, in a request or between two.
SILENCE = 5.0


class Handler(PyWSGIHandler):  # type: ignore[misc]
    """Serves one connection. gevent by itself would wait for the client for ever."""

    def handle(self) -> None:
        """Serve requests until the client closes the connection or is silent for too long."""
        self.socket.settimeout(SILENCE)
        super().handle()

    def handle_one_request(self) -> Any:
        """Serve one request; after SIGTERM it is the last one of its connection."""
        more = super().handle_one_request()
        return None if self.server.closed else more


class GunicornWorker(GeventPyWSGIWorker):  # type: ignore[misc]
    """A process of the API: any number of connections, one request at a time on the CPU."""

    wsgi_handler = Handler
