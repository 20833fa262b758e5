"""The server's connection without a socket: what it makes of bytes. The wire is in tests/conformance."""

from __future__ import annotations

from typing import Any

import pytest

from hemi.sockets import Peer
from hemi.web.h1.conn import Server1Conn
from tests.conformance import corpus
from tests.webkit import Site, config, load


class Silent:
    """A channel that nobody reads from."""

    tls = None
    deadline = 0.0

    def close(self) -> None:
        pass


@pytest.fixture(scope="module")
def gate() -> Any:
    site = Site(load(config()))
    yield site.server.gates[0]
    site.stage.stop(0)


def feed(gate: Any, *pieces: bytes) -> Server1Conn:
    conn = Server1Conn(gate, Silent(), Peer("127.0.0.1", 1))  # type: ignore[arg-type]
    for piece in pieces:
        if conn._failure is None:
            conn.feed(piece)
    return conn


def view(conn: Server1Conn) -> list[Any]:
    """All that was understood."""
    found: list[Any] = []
    for stream in conn._queue:
        request = stream.request
        content = stream.content
        if stream.refusal is not None:
            found.append(stream.refusal.status)
            break
        found.append(
            (
                request.method,
                request.target,
                request.version,
                request.path,
                request.query_string,
                dict(request.index),
                request.content_size,
                None if content is None else (b"".join(content.chunks), content.complete),
                request.trailer_fields,
                stream.keep_alive,
            )
        )
        if not stream.keep_alive:
            return found
    else:
        if conn._failure is not None:
            found.append(conn._failure.status)
    return found


# What follows a request with Upgrade waits for what comes of it, so it is not parsed here.
SMALL = [
    case for case in corpus.read("valid") if len(case.message) < 3000 and b"\nUpgrade:" not in case.message
]


@pytest.mark.parametrize("case", SMALL, ids=lambda case: case.name)
def test_pieces_make_no_difference(gate: Any, case: corpus.Case) -> None:
    """However a message is cut in two, and byte by byte, the same comes of it; with known fields, too."""
    message = case.message
    whole = view(feed(gate, message))
    assert view(feed(gate, message)) == whole
    assert view(feed(gate, *(message[at : at + 1] for at in range(len(message))))) == whole
    for at in range(1, len(message), max(1, len(message) // 60)):
        assert view(feed(gate, message[:at], message[at:])) == whole


def test_what_has_begun(gate: Any) -> None:
    """Empty lines and the end of a content are no beginning of a head: the connection is idle behind them."""
    for idle in (
        b"",
        b"\r\n",
        b"GET / HTTP/1.1\r\nhost: a\r\n\r\n",
        b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 2\r\n\r\nhi",
        b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 2\r\n\r\nhi\r\n",
        b"POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
    ):
        assert feed(gate, idle)._last == b""
        assert feed(gate, idle, b"G")._last.endswith(b"G")
        assert feed(gate, idle + b"GET / HT")._last.endswith(b"GET / HT")


def test_large_contents_do_not_count_as_heads(gate: Any) -> None:
    """A head that begins behind much content in one read is not too large for that."""
    content = b"x" * 60_000
    post = b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: %d\r\n\r\n" % len(content)
    conn = feed(gate, post, content + b"GET / HTTP/1.1\r\n", b"host: a\r\n", b"\r\n")
    assert conn._failure is None
    assert [type(one) for one in view(conn)] == [tuple, tuple]


def test_heads_that_overlap_reads_for_long(gate: Any) -> None:
    """Each read ends in the middle of a head: what came before is not counted again and again."""
    request = b"GET /%s HTTP/1.1\r\nhost: a\r\n\r\n" % (b"a" * 3000)
    data = request * 100
    conn = feed(gate, *(data[at : at + 16384] for at in range(0, len(data), 16384)))
    assert conn._failure is None and len(view(conn)) == 100


def test_repr(gate: Any) -> None:
    assert repr(feed(gate)) == "<Server1Conn 127.0.0.1:1 busy served=0>"
