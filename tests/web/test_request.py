"""The request as handlets see it."""

from __future__ import annotations

from typing import Any

import pytest

from hemi.sockets import Peer
from hemi.web.errors import HTTPError
from hemi.web.h1.framing import merge_fields
from hemi.web.request import Request


class FakeStream:
    """Gives a content piece by piece."""

    def __init__(self, *pieces: bytes) -> None:
        self.pieces = list(pieces)

    def read(self, size: int) -> bytes:
        return self.pieces.pop(0) if self.pieces else b""


class FakeConn:
    scheme = "https"
    peer = Peer("1.2.3.4", 5)
    tls = None


class FakeOwner:
    max_memory_content_size = 1000


def made(*fields: tuple[str, str], content: tuple[bytes, ...] = (), query: str = "") -> Request:
    pairs = [(name.encode(), value.encode("latin-1")) for name, value in fields]
    stream: Any = FakeStream(*content)
    conn: Any = FakeConn()
    request = Request(stream, conn, 11, "GET", b"/a?" + query.encode(), pairs, merge_fields(pairs))
    request.raw_path, request.path, request.query_string = b"/a", "/a", query
    request.authority = request.hostname = "a.example"
    owner: Any = FakeOwner()
    request.rule = owner
    return request


def test_target() -> None:
    request = made(query="b=c")
    assert request.uri() == "/a?b=c"
    assert request.url() == "https://a.example/a?b=c"
    assert request.line() == "GET /a?b=c HTTP/1.1"
    assert request.is_secure and request.version_text() == "1.1"
    assert repr(request) == "<Request GET /a?b=c HTTP/1.1>"
    assert made().uri() == "/a"


def test_fields() -> None:
    request = made(("accept", "a, b"), ("x", "1"), ("accept", "c"))
    assert request.header("X") == "1" and request.header("y") is None and request.header("y", "z") == "z"
    assert request.header_list("Accept") == ["a", "b", "c"]
    assert request.header("accept") == "a, b, c"
    assert request.headers["ACCEPT"] and "x" in request.headers
    assert request.header_text("x") == "1" and request.header_text("y") == ""


def test_changing_fields() -> None:
    fields = ((b"x", b"1"), (b"y", b"2"))
    index = {b"x": b"1", b"y": b"2"}
    stream: Any = FakeStream()
    conn: Any = FakeConn()
    request = Request(stream, conn, 11, "GET", b"/", fields, index)
    request.add_header("Z", "3")
    request.delete_header("X")
    request.delete_header("nothing")
    assert request.header("z") == "3" and request.header("x") is None
    assert list(request.fields) == [(b"y", b"2"), (b"z", b"3")]
    assert index == {b"x": b"1", b"y": b"2"}  # may be shared with other requests


def test_queries() -> None:
    request = made(query="a=1&b=%C3%A9+x&a=2&c")
    assert request.query("a") == "1" and request.queries("a") == ["1", "2"]
    assert request.query("b") == "é x" and request.query("c") == "" and request.query("d") is None
    assert request.query_text("d") == ""
    with pytest.raises(HTTPError) as raised:
        made(query="&".join(["a=b"] * 2000)).query("a")
    assert raised.value.status == 400


def test_cookies() -> None:
    request = made(("cookie", "a=1; b=2"), ("cookie", "a=3"))
    assert request.cookies == {"a": "1", "b": "2"}
    assert request.cookie("b") == "2" and request.cookie("c", "d") == "d" and request.cookie_text("c") == ""
    assert made().cookies == {}


def test_credentials() -> None:
    assert made(("authorization", "Basic dXNlcjpwYTpzcw==")).basic_auth() == ("user", "pa:ss")
    assert made(("authorization", "basic dXNlcjpwYTpzcw==")).user() == "user"
    for bad in ("Basic", "Basic !!!", "Basic dXNlcg==", "Basic /////w==", "Bearer x"):
        assert made(("authorization", bad)).basic_auth() is None
    assert made(("authorization", "Bearer  tok ")).bearer_token() == "tok"
    assert made(("authorization", "Bearer ")).bearer_token() is None
    assert made().bearer_token() is None and made().user() == ""


def test_types() -> None:
    request = made(("content-type", "Text/HTML; Charset=latin-1"))
    assert request.content_type == request.media_type() == "text/html"
    assert request.charset == "latin-1"
    assert made().content_type == "" and made().charset == "utf-8"


def test_negotiation() -> None:
    request = made(
        ("accept", "text/html;q=0.5"), ("accept", "application/json"), ("accept-encoding", "br, gzip")
    )
    assert request.accepts("text/html", "application/json") == "application/json"
    assert request.accept_encoding("gzip", "br") in ("gzip", "br")
    assert request.accept_language("en") in ("en", None)


def test_ranges() -> None:
    assert made().ranges(10) is None
    found = made(("range", "bytes=2-3")).ranges(10)
    assert found is not None and [(one.start, one.size) for one in found] == [(2, 2)]
    assert made(("range", "bytes=20-")).ranges(10) == []


# Contents


def test_reading() -> None:
    request = made(content=(b"abc", b"defg", b"h"))
    assert request.read(2) == b"ab"
    assert request.read(3) == b"cde"
    assert request.read(0) == b""
    assert list(request) == [b"fg", b"h"]
    assert request.read(5) == b"" == request.read()


def test_reading_all() -> None:
    request = made(content=(b"abc", b"def"))
    assert request.read(1) == b"a"
    assert request.content() == b"bcdef"
    assert request.content() == b""


def test_the_limits() -> None:
    with pytest.raises(HTTPError) as raised:
        made(content=(b"x" * 1001,)).content()
    assert raised.value.status == 413 and raised.value.close
    request = made(content=(b"x" * 6, b"x" * 6))
    request.limit = 10
    assert request.receive() == b"x" * 6
    with pytest.raises(HTTPError, match="413"):
        request.receive()


class Doubling:
    def update(self, data: bytes) -> bytes:
        return data * 2

    def finish(self) -> bytes:
        return b"!"


def test_filters() -> None:
    request = made(content=(b"ab", b"c"))
    request.filters = (Doubling(), Doubling())
    assert request.content() == b"abababab" + b"cccc" + b"!!!"
    assert request.receive() == b""


def test_the_limit_holds_for_what_filters_make() -> None:
    request = made(content=(b"ab",) * 10)
    request.filters = (Doubling(), Doubling(), Doubling())
    request.limit = 50
    with pytest.raises(HTTPError, match="413"):
        for _ in request:
            pass


def test_json_and_text() -> None:
    assert made(content=(b'{"a": ', b"[1]}")).json() == {"a": [1]}
    for bad in (b"", b"{", b"\xff", b"[" * 5000, b"NaN" * 2):
        with pytest.raises(HTTPError) as raised:
            made(content=(bad[:500],)).json()
        assert raised.value.status == 400
    assert made(("content-type", "text/plain; charset=latin-1"), content=(b"\xe9",)).text() == "é"
    for charset, data, status in (("utf-8", b"\xe9", 400), ("nonsense", b"x", 415), ("zip", b"x", 415)):
        with pytest.raises(HTTPError) as raised:
            made(("content-type", f"text/plain; charset={charset}"), content=(data,)).text()
        assert raised.value.status == status
