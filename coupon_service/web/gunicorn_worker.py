"""The gunicorn worker class of the API: gevent's server, which closes silent connections."""

import signal
import sys
from typing import Any

from gevent import GreenletExit, monkey
from gunicorn.workers.ggevent import GeventPyWSGIWorker, PyWSGIHandler, PyWSGIServer

#: Seconds of silence after which a connection is closed, in a request or between two.
SILENCE = 5.0
#: Seconds in which a client has to take each part of an answer. A large CSV may be read slowly.
SEND_WITHIN = 60.0
#: Bytes of such a part.
PART = 16 * 1024


class Handler(PyWSGIHandler):  # type: ignore[misc]
    """Serves one connection. gevent by itself would wait for the client for ever."""

    def handle(self) -> None:
        """Serve requests until the client closes the connection or is silent for too long."""
        self.socket.settimeout(SILENCE)
        super().handle()

    def finalize_headers(self) -> None:
        """Complete the headers; of a server that stops, each answer is the last on its connection.

        The client has to be told, or it would send its next request to nobody.
        """
        super().finalize_headers()
        if self.command == "HEAD":
            # An answer without a length would end with a chunk, which one to HEAD may not have.
            self.response_use_chunked = False
        if self.server.closed:
            self.close_connection = True
            self.response_headers: list[tuple[bytes, bytes]] = [
                *(pair for pair in self.response_headers if pair[0].lower() != b"connection"),
                (b"Connection", b"close"),
            ]

    def handle_one_request(self) -> Any:
        """Serve a request, and forget the one before: a head that cannot be read has none."""
        self.environ: Any = None
        return super().handle_one_request()

    def log_request(self) -> None:
        """Write the access line; what is wrong with a head that cannot be read is an error."""
        if self.environ is not None:
            super().log_request()

    def _log_error(self, kind: type[BaseException], error: BaseException, trace: Any) -> None:
        """Log as everything else is, where gevent would print."""
        if not issubclass(kind, GreenletExit):
            self.server.log.error("a connection fails", exc_info=(kind, error, trace))

    def _sendall(self, data: bytes) -> None:
        self.socket.settimeout(SEND_WITHIN)
        for start in range(0, len(data), PART):
            super()._sendall(data[start:start + PART])
        self.socket.settimeout(SILENCE)


class Server(PyWSGIServer):  # type: ignore[misc]
    """Listens for connections; what gevent says of heads that cannot be read is logged too."""

    def __init__(self, *args: Any, log: Any, **options: Any) -> None:
        super().__init__(*args, log=log, error_log=log, **options)


class GunicornWorker(GeventPyWSGIWorker):  # type: ignore[misc]
    """A process of the API: any number of connections, one request at a time on the CPU."""

    server_class = Server
    wsgi_handler = Handler

    @classmethod
    def setup(cls) -> None:
        """Prepare the parent process, before it loads the application (--preload) or forks.

        Locks that are made before the patch are native ones, for which two requests would wait for
        ever. The parent's own handling of its children is left alone.

        Raises:
            SystemExit: a setting cannot be used. In the children it would be told once by each.
        """
        if not monkey.is_module_patched("threading"):  # SIGHUP comes here again
            for patch in (
                monkey.patch_thread, monkey.patch_socket, monkey.patch_ssl, monkey.patch_select,
                monkey.patch_time,  # redis-py sleeps before it tries again
            ):
                patch()
        # Not before the patch, for they load redis and with it ssl.
        from coupon_service import logs
        from coupon_service.config import from_environment
        from coupon_service.errors import ConfigError
        from coupon_service.web.app import create_app

        try:
            config = from_environment()
            logs.configure(config, logs.TEXT_WITH_PID, ("gunicorn.error", "gunicorn.access"))
            create_app(config)
        except ConfigError as error:
            sys.exit(str(error))

    def init_process(self) -> None:
        """Serve until a signal. One that comes before gunicorn has set its own handlers would go
        to those of the parent, which were inherited, and be lost."""
        signal.signal(signal.SIGTERM, self.handle_exit)
        super().init_process()

    def load_wsgi(self) -> None:
        """Load the application, and put the fast path before it."""
        super().load_wsgi()
        from coupon_service.web import fast_path

        self.wsgi: Any = fast_path.put_before(self.wsgi)
