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


GET = b"GET / HTTP/1.1\r\nhost: a\r\n\r\n"


@pytest.mark.parametrize(
    ("message", "status"),
    [
        (b"FOO / HTTP/1.1\r\n", 501),
        (b"\r\nBREW * HTTP/1.1\r\n", 501),
        (b"GETT http://a/ HTTP/1.1\r\n", 501),
        (b"get / HTTP/1.1\r\n", 501),
        (b"FOO bar HTTP/1.1\r\n", 400),
        (b"FOO", None),
        (b"FOO ", None),
        (b"A" * 33, 400),
        (b"F(O", 400),
        (b"\x16\x03\x01\x02\x00\x01", 400),
        (b"GET /\r\n", 400),  # HTTP/0.9 has nothing more to say
        (b"\r\nGET /\r\n", 400),
    ],
)
def test_starts_of_no_request(gate: Any, message: bytes, status: int | None) -> None:
    """What cannot become a request is refused at once and alike, whether it comes whole or byte by byte."""
    for pieces in ([message], [message[at : at + 1] for at in range(len(message))]):
        for before in ([], [GET]):
            conn = feed(gate, *before, *pieces)
            assert (conn._failure.status if conn._failure else None) == status
            assert len(conn._queue) == len(before)
            assert status or conn._last == message  # it goes on, or says that the end came in the middle


@pytest.mark.parametrize(
    ("message", "status"), [(b"FOO / HTTP/1.1\r\nhost: a\r\n\r\n", 501), (b"F(O / HTTP/1.1\r\n\r\n", 400)]
)
def test_bad_methods_behind_requests(gate: Any, message: bytes, status: int) -> None:
    """The good requests before them do not count as what is wrong."""
    for before in (GET, GET * 3):
        conn = feed(gate, before + message)
        assert conn._failure is not None and conn._failure.status == status


@pytest.mark.parametrize("size", [1, 100, 16384])
def test_endless_heads_are_refused_in_time(gate: Any, size: int) -> None:
    """Not a byte more than may be in a head is waited for; what is too long is named."""
    server = gate.server
    for start, status, most in (
        (b"GET / HTTP/1.1\r\nhost: a\r\nx: ", 431, server.max_head_size),
        (b"GET / HTTP/1.1\r\nx: ", 431, server.max_head_size),
        (b"GET /", 414, server.max_target_size),
    ):
        conn, sent = feed(gate, start), len(start)
        while conn._failure is None and sent < 100_000:
            conn.feed(b"a" * size)
            sent += size
        assert conn._failure is not None and conn._failure.status == status
        assert most < sent <= most + len(start) + size


def test_the_host_of_absolute_targets_is_the_field_host(gate: Any) -> None:
    """Apps that look at the field see what the webapp was chosen by (RFC 9112 §3.2.2)."""
    for line, host in (
        (b"GET http://b.example:81/c HTTP/1.1\r\nhost: a.example\r\n\r\n", "b.example:81"),
        (b"GET http://b.example/c HTTP/1.0\r\n\r\n", "b.example"),
        (b"GET http://a.example/c HTTP/1.1\r\nhost: a.example\r\n\r\n", "a.example"),
    ):
        request = feed(gate, line)._queue[0].request
        assert request.header("host") == request.authority == host
        assert [value for name, value in request.fields if name == b"host"] == [host.encode()]


@pytest.mark.parametrize(
    "content", [b"Z\r\n", b"3 \r\nabc\r\n", b"3\nabc\n", b"F" * 17 + b"\r\n", b"1\r\nab\r\n"]
)
def test_broken_contents_that_came_with_the_head(gate: Any, content: bytes) -> None:
    """Nobody serves such a request, also who would not look at its content (SECURITY row 3)."""
    head = b"POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n"
    conn = feed(gate, GET + head + content)
    good, broken = conn._queue
    assert good.refusal is None and good.keep_alive
    assert broken.refusal is not None and broken.refusal.status == 400 and not broken.keep_alive
    conn = feed(gate, head)
    serving = conn._queue.popleft()
    conn.feed(content)
    assert serving.refusal is None and serving.content is not None and serving.content.refusal is not None


@pytest.mark.parametrize(
    ("fields", "keeps"),
    [
        (b"connection: keep-alive\r\n", True),
        (b"connection: close, keep-alive\r\n", False),
        (b"connection: Keep-Alive, Close\r\n", False),
        (b"connection: close\r\nconnection: keep-alive\r\n", False),
        (b"proxy-connection: keep-alive\r\n", True),  # as llhttp has it
        (b"", False),
    ],
)
def test_http_1_0_connections_that_go_on(gate: Any, fields: bytes, keeps: bool) -> None:
    """`close` wins (RFC 9112 §9.3)."""
    (stream,) = feed(gate, b"GET / HTTP/1.0\r\nhost: a\r\n" + fields + b"\r\n")._queue
    assert stream.keep_alive == keeps


def test_repr(gate: Any) -> None:
    assert repr(feed(gate)) == "<Server1Conn 127.0.0.1:1 busy served=0>"
