"""One exchange with a node that speaks HTTP/2, without a connection."""

from __future__ import annotations

import math
from typing import Any

import gevent
import pytest

from hemi.sockets import DeadlinePassed
from hemi.web.h1.answer import BadAnswer
from hemi.web.h2.backend import Terms
from hemi.web.h2.clientstream import Backend2Stream
from tests.webkit import until

OK = [(b":status", b"200")]
HEAD = b"POST / HTTP/1.1\r\nhost: a\r\n\r\n"


class FakeConn:
    """Notes what is sent; has room for `window` bytes."""

    scheme = b"http"
    has_connect = False

    def __init__(self, window: int = 1 << 20, **terms: Any) -> None:
        self.terms = Terms(**{"known": {}, "known_requests": {}, **terms})
        self.window = window
        self.uses = 2
        self.said: list[Any] = []
        self.blocked: set[Any] = set()

    def begin(self, stream: Backend2Stream, fields: Any, last: bool) -> None:
        stream.number = 1
        self.said.append(("head", last))

    def room(self, number: int) -> int:
        return self.window

    def send_data(self, number: int, data: bytes, last: bool) -> None:
        self.window -= len(data)
        self.said.append((data, last))

    def send_trailers(self, number: int, fields: Any) -> None:
        self.said.append(fields)

    def end_stream(self, number: int) -> None:
        self.said.append("end")

    def open_window(self, number: int, size: int) -> None:
        self.said.append(size)

    def release(self, stream: Backend2Stream, is_done: bool) -> None:
        self.said.append(("release", is_done))


def begun(conn: FakeConn, method: str = "GET") -> Backend2Stream:
    stream = Backend2Stream(conn).begin(method)  # type: ignore[arg-type]
    stream.send_whole(HEAD)
    return stream


def test_a_whole_exchange() -> None:
    conn = FakeConn()
    stream = begun(conn)
    stream.take_head([*OK, (b"content-length", b"3")], False)
    assert stream.read_head().size == 3
    assert stream.take_whole(3) is None
    stream.take_data(b"abc", 3)
    assert stream.take_whole(3) is None  # trailers may follow
    stream.take_end()
    assert stream.has_content and stream.take_whole(3) == b"abc"
    assert stream.end()
    stream.close()
    stream.close()
    assert conn.said == [("head", True), ("release", True)]


def test_contents_in_pieces() -> None:
    conn = FakeConn(window=5)
    stream = Backend2Stream(conn).begin("POST")  # type: ignore[arg-type]
    stream.send_head(HEAD)
    task = gevent.spawn(stream.send_data, b"abcdefgh")
    until(lambda: stream in conn.blocked)
    conn.window = 2
    stream.wake_writer()
    until(lambda: conn.window == 0)
    conn.window = 10
    stream.wake_writer()
    task.get()
    assert not conn.blocked
    stream.finish([(b"a", b"b")])
    assert conn.said == [("head", False), (b"abcde", False), (b"fg", False), (b"h", False), [(b"a", b"b")]]
    assert stream.sent


def test_windows_open_when_half_of_them_was_read() -> None:
    conn = FakeConn(window=10)
    conn.terms = conn.terms._replace(window=100)
    stream = begun(conn)
    stream.take_head(OK, False)
    stream.read_head()
    for _ in range(3):
        stream.take_data(b"x" * 20, 22)  # two bytes of padding
        assert stream.read() == b"x" * 20
    assert conn.said[1:] == [66]


def test_what_has_come_is_read_before_the_error() -> None:
    stream = begun(FakeConn())
    stream.take_head(OK, False)
    stream.take_data(b"abc", 3)
    stream.fail(ConnectionResetError("gone"))
    assert stream.read_head().status == 200
    assert stream.read() == b"abc"
    with pytest.raises(ConnectionResetError):
        stream.read()
    assert not stream.end()


def test_trailers_without_content() -> None:
    stream = begun(FakeConn())
    stream.take_head(OK, False)
    stream.take_trailers([(b"grpc-status", b"5")])
    stream.take_end()
    stream.read_head()
    assert not stream.complete
    assert stream.read() == b"" and stream.complete
    assert stream.trailers == [(b"grpc-status", b"5")]


def test_a_promise_that_is_not_kept() -> None:
    stream = begun(FakeConn())
    stream.take_head([*OK, (b"content-length", b"3")], False)
    stream.take_data(b"ab", 2)
    with pytest.raises(BadAnswer, match="1 bytes of its content are missing") as caught:
        stream.take_end()
    stream.fail(caught.value)
    with pytest.raises(BadAnswer, match="missing"):
        stream.read_head()


@pytest.mark.parametrize(
    ("method", "status", "length"), [("GET", b"200", b"2"), ("HEAD", b"200", b"9"), ("GET", b"304", b"9")]
)
def test_more_than_was_promised(method: str, status: bytes, length: bytes) -> None:
    stream = begun(FakeConn(), method)
    stream.take_head([(b":status", status), (b"content-length", length)], False)
    with pytest.raises(BadAnswer, match="more content than it says"):
        stream.take_data(b"abc", 3)


def test_interim_answers_have_a_limit() -> None:
    stream = begun(FakeConn())
    with pytest.raises(BadAnswer, match="without end"):
        for _ in range(100):
            stream.take_head([(b":status", b"103")], False)
    assert stream.interim == 33


def test_heads_are_remembered() -> None:
    conn = FakeConn()
    heads = []
    for _ in range(2):
        stream = begun(conn)
        stream.take_head([*OK, (b"a", b"b")], True)
        stream.take_end()
        heads.append(stream.read_head())
    assert heads[0] is heads[1] and heads[0].is_known
    stream = begun(conn)
    stream.take_head([*OK, (b"a", b"b" * 3000)], True)
    assert not stream.read_head().is_known


def test_cutting_wakes_both() -> None:
    conn = FakeConn(window=0)
    stream = Backend2Stream(conn).begin("POST")  # type: ignore[arg-type]
    stream.send_head(HEAD)
    reader, writer = gevent.spawn(stream.read_head), gevent.spawn(stream.send_data, b"abc")
    until(lambda: conn.blocked)
    assert stream.send_deadline < math.inf and stream.deadline == math.inf
    stream.cut(0.0)
    gevent.joinall([reader, writer])
    assert isinstance(reader.exception, DeadlinePassed)
    assert str(writer.exception) == "the node does not take what is sent to it"


def test_closing_ends_waits() -> None:
    stream = begun(FakeConn())
    reader = gevent.spawn(stream.read_head)
    gevent.sleep(0)
    stream.close()
    reader.join()
    assert isinstance(reader.exception, ConnectionAbortedError)
    assert repr(stream) == "<Backend2Stream 1 GET sent queued=0>"


def test_as_a_channel() -> None:
    conn = FakeConn()
    stream = begun(conn)
    stream.take_head(OK, False)
    stream.read_head()
    channel, early = stream.take_over()
    assert (channel, early) == (stream, b"")
    stream.take_data(b"abcdef", 6)
    assert [stream.recv(4), stream.recv(4)] == [b"abcd", b"ef"]
    stream.take_end()
    assert stream.recv(4) == b""
    channel.send_pieces([b"x", b"y"])
    assert conn.said[-1] == (b"xy", False)
