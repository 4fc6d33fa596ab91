"""The head of an HTTP/1 request, read by llhttp, which refuses what a proxy could read differently
(RFC 9112, "Request Smuggling")."""

from collections.abc import Iterable
from functools import lru_cache
from io import BufferedReader

from httptools import HttpParserUpgrade, HttpRequestParser

#: Bytes of a head; more are refused before they are read.
MAX_HEAD = 16 * 1024


class Head:
    """What the first line and the fields say, names in small letters.

    `length` is the Content-Length, or None; `keeps_connection` whether another request may follow.
    """

    def __init__(self, raw: bytes) -> None:
        """Parse a head, its empty line included.

        Raises:
            ValueError, httptools.HttpParserError: it is malformed.
        """
        # A client may send an empty line before a request (RFC 9112, 2.2).
        request_line, *lines, end, rest = raw.removeprefix(b"\r\n").split(b"\r\n")
        if b"\n" in request_line or end or rest:
            raise ValueError("the lines of the head do not end as they must")
        fields = list(map(_field, lines))
        self._first = {name: value for name, value, _ in reversed(fields)}
        #: The fields as WSGI names them. One with a `_` in its name is left out, because a proxy
        #: may have put another there with a `-`.
        self.variables = [(variable, value) for _, value, variable in fields if variable]
        self._target = b""
        self._parser = parser = HttpRequestParser(self)
        try:
            parser.feed_data(raw)
        except HttpParserUpgrade:
            pass  # to what the client would rather speak; it is answered in HTTP/1
        self.method: str = parser.get_method().decode()
        self.target = self._target.decode("latin-1")
        self.version: str = parser.get_http_version()
        if self.version not in ("1.0", "1.1"):
            raise ValueError(f"HTTP/{self.version} is not known")
        length = self.get("content-length")
        self.length = None if length is None else int(length)
        if self.length and self.method == "HEAD":
            raise ValueError("a HEAD has no body")

    def on_url(self, part: bytes) -> None:
        """Called by the parser, with a part of the target or the whole."""
        self._target += part

    def on_headers_complete(self) -> None:
        """Called by the parser, which knows this only now."""
        self.keeps_connection: bool = self._parser.should_keep_alive()

    @property
    def typeheader(self) -> str | None:
        """The Content-Type, as gevent asks for it."""
        return self.get("content-type")

    def get(self, name: str, default: str | None = None) -> str | None:
        """Return the first field of a name."""
        return self._first.get(name.lower(), default)

    getheader = get

    def items(self) -> Iterable[tuple[str, str]]:
        """Return the first field of each name, as the access line asks for them."""
        return self._first.items()


@lru_cache(512)  # browsers send the same lines again and again
def _field(line: bytes) -> tuple[str, str, str | None]:
    """Return name, in small letters, and value of a field; and its name in WSGI, if it has one.

    Raises:
        ValueError: it goes on in the next line, or its line ends in another way than with CR LF,
            which llhttp takes for the same.
    """
    if b"\n" in line or line.startswith((b" ", b"\t")):
        raise ValueError("the lines of the head do not end as they must")
    name, _, value = line.decode("latin-1").partition(":")
    known = name.lower()
    is_variable = "_" not in known and known not in ("content-type", "content-length")
    variable = f"HTTP_{known.replace('-', '_').upper()}" if is_variable else None
    return known, value.strip(" \t"), variable


def read_rest(first: bytes, stream: BufferedReader) -> bytes:
    """Return a head whose first line was read, with the rest.

    Raises:
        ValueError: it is too long, or ends before its empty line.
    """
    ready = stream.peek()
    end = ready.find(b"\r\n\r\n") + 4
    if not ready.startswith(b"\r\n") and 4 <= end <= MAX_HEAD - len(first):
        return first + stream.read(end)
    lines, left = [first], MAX_HEAD - len(first)
    while lines[-1] not in (b"\r\n", b"\n"):
        lines.append(line := stream.readline(left + 1))
        left -= len(line)
        if left < 0 or not line:
            raise ValueError("the head is too long, or has no end")
    return b"".join(lines)
