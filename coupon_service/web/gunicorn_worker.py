"""The gunicorn worker class of the API: gevent's server, which closes silent connections."""

import os
import signal
import sys
from typing import Any

from gevent import GreenletExit, monkey
from gunicorn.workers.ggevent import GeventPyWSGIWorker, PyWSGIHandler, PyWSGIServer
from httptools import HttpParserError

from coupon_service.web.http_head import Head, read_rest

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

    def read_request(self, line: str) -> bool:
        """Read the rest of a head, where gevent has read its first line.

        Raises:
            ValueError: it is malformed; the client gets 400.
        """
        try:
            head = Head(read_rest(line.encode("latin-1"), self.rfile))
        except HttpParserError as error:
            raise ValueError(str(error)) from error
        self.requestline = line.rstrip()
        self.headers = head
        self.command, self.path = head.method, head.target
        self.request_version = f"HTTP/{head.version}"
        self.content_length = head.length
        self.close_connection = not head.keeps_connection
        return True

    def _headers(self) -> list[tuple[str, str]]:
        return self.headers.variables

    def _write_with_headers(self, data: bytes) -> None:
        """Send head and body at once."""
        self.headers_sent = True
        self.finalize_headers()
        head = b"".join([
            b"HTTP/1.1 ", self.status, b"\r\n",
            *(b"%s: %s\r\n" % field for field in self.response_headers), b"\r\n",
        ])
        if self.response_use_chunked:
            self._sendall(head)
            self._write(data)
        else:
            self._sendall(head + data)

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


def _let_sigterm_through() -> None:
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})


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
            os.register_at_fork(after_in_parent=_let_sigterm_through)
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

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        """Called in the parent, before it forks. A SIGTERM that came before gunicorn has set its
        own handlers would go to those of the parent, which the process inherits, and be lost."""
        super().__init__(*args, **kwargs)
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})

    def init_process(self) -> None:
        """Serve until a signal."""
        signal.signal(signal.SIGTERM, self.handle_exit)
        _let_sigterm_through()
        super().init_process()

    def load_wsgi(self) -> None:
        """Load the application, and put the fast path before it."""
        super().load_wsgi()
        from coupon_service.web import fast_path

        self.wsgi: Any = fast_path.put_before(self.wsgi)
