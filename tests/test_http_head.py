"""Fields are split here and judged by llhttp: what one accepts the other must have read alike."""

from io import BufferedReader, BytesIO

from hypothesis import given, settings
from hypothesis import strategies as st
from httptools import HttpParserError, HttpParserUpgrade, HttpRequestParser

from coupon_service.web.http_head import Head, read_rest


class Fields:
    """What llhttp reads."""

    def __init__(self, raw):
        self.read = []
        try:
            HttpRequestParser(self).feed_data(raw)
        except HttpParserUpgrade:
            pass

    def on_header(self, name, value):
        # It keeps blanks at the end, which are no part of a value (RFC 9110, 5.5).
        self.read.append((name.decode("latin-1").lower(), value.decode("latin-1").rstrip(" \t")))


names = st.sampled_from([b"Host", b"X", b"x", b"X-Y", b"X_Y", b"Content-Type", b"Upgrade"])
sound = st.sampled_from([b"a", b"\xe9", b":", b" ", b"\t", b"\x85", b"\xa0"])
odd = st.sampled_from([b"\r", b"\n", b"\r\n", b"\r\n ", b"\x0b", b"\0"])
values = st.lists(sound | sound | sound | odd, max_size=4).map(b"".join)
colons = st.sampled_from([b":", b": ", b":\t "] * 3 + [b" :", b""])
ends = st.sampled_from([b"\r\n"] * 20 + [b"\n", b"\r", b""])
heads = st.tuples(
    st.sampled_from([b"", b"", b"\r\n", b"\n"]), st.just(b"GET /a HTTP/1.1"), ends,
    st.lists(st.tuples(names, colons, values, ends).map(b"".join), max_size=4).map(b"".join), ends,
).map(b"".join)


@settings(max_examples=1000, deadline=None)
@given(heads)
def test_fields_are_those_that_llhttp_reads(sent):
    stream = BufferedReader(BytesIO(sent))
    try:
        raw = read_rest(stream.readline(), stream)
        head = Head(raw)
    except (ValueError, HttpParserError):
        return
    read = Fields(raw).read
    assert list(head.items()) == list(dict(reversed(read)).items())
    assert head.variables == [
        (f"HTTP_{name.replace('-', '_').upper()}", value) for name, value in read
        if name != "content-type" and "_" not in name
    ]
