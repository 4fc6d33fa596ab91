"""How gunicorn serves the API: gevent's server, with an end to connections that say nothing."""

from typing import Any

from gunicorn.workers.ggevent import GeventPyWSGIWorker, PyWSGIHandler

#: Seconds to wait for the next bytes of a client; also how long an idle connection is kept.
PATIENCE = 5.0


class Handler(PyWSGIHandler):  # type: ignore[misc]
    """Serves one connection. gevent by itself would wait for its client for ever."""

    def handle(self) -> None:
        """Serve requests until the client ends the connection or says nothing any more."""
        self.socket.settimeout(PATIENCE)
        super().handle()

    def handle_one_request(self) -> Any:
        """Serve one request; after SIGTERM it is the last one of its connection."""
        more = super().handle_one_request()
        return None if self.server.closed else more


class Worker(GeventPyWSGIWorker):  # type: ignore[misc]
    """A process of the API: any number of connections, one request at a time on the CPU."""

    wsgi_handler = Handler
