"""How a response is framed, byte for byte, without a socket."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from hemi.web.errors import ClientGone
from hemi.web.h1.stream import GATHER, LengthMismatch, Server1Stream
from hemi.web.response import Response


class FakeChannel:
    def __init__(self) -> None:
        self.sent = b""
        self.writes = 0
        self.was_reset = False

    def send(self, data: bytes) -> None:
        self.sent += data
        self.writes += 1

    def send_pieces(self, pieces: list[bytes]) -> None:
        self.send(b"".join(pieces))

    def reset(self) -> None:
        self.was_reset = True


def made(
    method: str = "GET", version: int = 11, keep_alive: bool = True
) -> tuple[FakeChannel, Server1Stream, Response]:
    channel = FakeChannel()
    server = SimpleNamespace(
        known_answers={},
        head_lines=b"server: x\r\n",
        keepalive_requests=10,
        clock=SimpleNamespace(date_line=b"date: now\r\n"),
    )
    conn: Any = SimpleNamespace(
        channel=channel,
        server=server,
        gate=SimpleNamespace(closing=False),
        served=1,
        until=1e18,
        broken=False,
    )
    stream = Server1Stream(conn, keep_alive)
    request: Any = SimpleNamespace(method=method, version=version, started=0.0, scheme="http")
    stream.request = request
    return channel, stream, Response(request, stream)


def test_a_whole_response_is_one_write() -> None:
    for _ in range(2):  # the second one is remembered
        channel, stream, response = made()
        response.content_type = "text/plain"
        stream.send_whole(response, b"hello")
        assert sorted(channel.sent.split(b"\r\n")) == sorted(
            [
                b"HTTP/1.1 200 OK",
                b"server: x",
                b"date: now",
                b"content-type: text/plain",
                b"content-length: 5",
                b"",
                b"hello",
            ]
        )
        assert channel.writes == 1 and stream.done and response.is_sent and response.bytes_sent == 5


def test_a_large_one_is_not_copied_behind_its_head() -> None:
    channel, stream, response = made()
    stream.send_whole(response, b"x" * (GATHER + 1))
    assert channel.sent.endswith(b"\r\n\r\n" + b"x" * (GATHER + 1)) and channel.writes == 1


def test_chunks() -> None:
    channel, stream, response = made()
    stream.send_head(response)
    assert channel.sent == b""
    stream.send_data(b"hello")
    assert channel.writes == 1
    stream.send_data(b"")
    stream.send_data(b"x" * 16, last=True)
    head, _, content = channel.sent.partition(b"\r\n\r\n")
    assert b"transfer-encoding: chunked" in head and b"content-length" not in head
    assert content == b"5\r\nhello\r\n10\r\nxxxxxxxxxxxxxxxx\r\n0\r\n\r\n"
    assert stream.done and response.bytes_sent == 21


def test_trailers() -> None:
    channel, stream, response = made()
    stream.send_head(response)
    stream.send_trailers([(b"a", b"b"), (b"c", b"d")])
    assert channel.sent.endswith(b"\r\n\r\n0\r\na: b\r\nc: d\r\n\r\n")
    channel, stream, response = made()
    response.content_size = 0
    stream.send_head(response)
    stream.send_trailers([(b"a", b"b")])
    assert b"a: b" not in channel.sent and channel.sent.endswith(b"\r\n\r\n")


@pytest.mark.parametrize(
    ("version", "keep_alive", "line"),
    [(11, True, b""), (11, False, b"close"), (10, True, b"keep-alive"), (10, False, b"close")],
)
def test_connection_lines(version: int, keep_alive: bool, line: bytes) -> None:
    channel, stream, response = made(version=version, keep_alive=keep_alive)
    stream.send_whole(response, b"")
    assert (b"connection: %b\r\n" % line in channel.sent) == bool(line)
    assert channel.sent.count(b"connection:") == bool(line)


def test_http_1_0_without_a_size_ends_with_the_connection() -> None:
    channel, stream, response = made(version=10)
    stream.send_head(response)
    stream.send_data(b"hello", last=True)
    assert channel.sent.endswith(b"connection: close\r\n\r\nhello")
    assert b"transfer-encoding" not in channel.sent and not stream.keep_alive


@pytest.mark.parametrize("status", [204, 304])
def test_statuses_without_content(status: int) -> None:
    channel, stream, response = made()
    response.status = status
    stream.send_whole(response, b"hello")
    assert channel.sent.endswith(b"\r\n\r\n") and b"content-length" not in channel.sent
    assert response.bytes_sent == 0
    channel, stream, response = made()
    response.status = status
    stream.send_head(response)
    stream.send_data(b"hello")
    stream.finish()
    assert channel.sent.endswith(b"\r\n\r\n") and b"transfer-encoding" not in channel.sent


def test_head() -> None:
    channel, stream, response = made("HEAD")
    stream.send_whole(response, b"hello")
    assert channel.sent.endswith(b"\r\n\r\n") and b"content-length: 5\r\n" in channel.sent
    channel, stream, response = made("HEAD")
    response.content_size = 1000
    stream.send_whole(response, b"")
    assert b"content-length: 1000\r\n" in channel.sent
    channel, stream, response = made("HEAD")
    stream.send_head(response)
    stream.send_data(b"hello")
    stream.send_data(b"hello", last=True)
    assert channel.sent.endswith(b"\r\n\r\n") and b"transfer-encoding: chunked\r\n" in channel.sent
    assert stream.done and stream.keep_alive


def test_promises_are_kept() -> None:
    channel, stream, response = made()
    response.content_size = 5
    stream.send_head(response)
    stream.send_data(b"12")
    with pytest.raises(LengthMismatch, match="more content"):
        stream.send_data(b"3456789")
    assert channel.sent.endswith(b"\r\n\r\n12345") and not stream.keep_alive
    channel, stream, response = made()
    response.content_size = 5
    stream.send_head(response)
    stream.send_data(b"12")
    with pytest.raises(LengthMismatch, match="3 bytes"):
        stream.finish()
    assert channel.was_reset


def test_retracting() -> None:
    channel, stream, response = made()
    stream.send_head(response)
    assert stream.retract() and not response.is_sent
    stream.send_whole(response, b"another")
    assert channel.sent.count(b"HTTP/1.1") == 1 and channel.sent.endswith(b"another")
    channel, stream, response = made()
    stream.send_head(response)
    stream.flush()
    assert channel.sent and not stream.retract()


def test_informational() -> None:
    channel, stream, _ = made()
    stream.send_informational(103, [(b"link", b"</a>")])
    assert channel.sent == b"HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\n"
    channel, stream, _ = made(version=10)
    stream.send_informational(103, [(b"link", b"</a>")])
    assert channel.sent == b""


def test_what_cannot_be_sent_leaves_room_for_an_error() -> None:
    channel, stream, response = made()
    response.content_type = "a\r\nb"
    for send in (stream.send_head, lambda response: stream.send_whole(response, b"x")):
        with pytest.raises(ValueError):
            send(response)
        assert not response.is_sent and not stream.done
    response.content_type = ""
    stream.send_whole(response, b"fine")
    assert channel.sent.endswith(b"fine")


def test_the_end() -> None:
    channel, stream, response = made()
    stream.send_whole(response, b"x")
    sent = channel.sent
    with pytest.raises(ClientGone):
        stream.send_data(b"more")
    stream.end()
    for call in (
        lambda: stream.send_whole(response, b"more"),
        lambda: stream.send_data(b"more"),
        lambda: stream.send_head(response),
    ):
        with pytest.raises((ClientGone, AttributeError)):
            call()
    assert channel.sent == sent
    assert "done" in repr(stream)


def test_a_client_that_left() -> None:
    channel, stream, response = made()

    def fail(data: bytes) -> None:
        raise BrokenPipeError(32, "gone")

    channel.send = fail  # type: ignore[method-assign]
    conn = stream.conn
    with pytest.raises(ClientGone):
        stream.send_whole(response, b"x")
    assert conn is not None and conn.broken and not stream.keep_alive
