"""The client's side of HTTP/1 over a channel that is a list of pieces."""

from __future__ import annotations

from typing import Any

import pytest

from hemi.web.h1.answer import BadAnswer, Head
from hemi.web.h1.backend import Backend1Stream


class Pieces:
    """A channel whose peer has said all of this."""

    deadline = 0.0

    def __init__(self, data: bytes, step: int) -> None:
        self.data = data
        self.step = step
        self.sent = b""

    def recv(self, size: int) -> bytes:
        size = min(size, self.step)
        data, self.data = self.data[:size], self.data[size:]
        return data

    recv_waiting = recv

    def send(self, data: bytes) -> None:
        self.sent += data

    def send_pieces(self, pieces: list[bytes]) -> None:
        self.sent += b"".join(pieces)


def exchange(data: bytes, step: int, method: str = "GET") -> tuple[Head, bytes, Backend1Stream]:
    channel: Any = Pieces(data, step)
    stream = Backend1Stream(channel, method, {})
    stream.send_whole(b"GET / HTTP/1.1\r\n\r\n")
    head = stream.read_head()
    while head.status < 200:
        head = stream.read_head()
    content = b""
    while piece := stream.read():
        content += piece
    return head, content, stream


@pytest.mark.parametrize("step", [1, 7, 10_000])
@pytest.mark.parametrize(
    ("data", "content", "keep"),
    [
        (b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello", b"hello", True),
        (b"HTTP/1.1 103 E\r\nLink: x\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", b"", True),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n", b"hello", True),
        (b"HTTP/1.1 200 OK\r\n\r\nhello", b"hello", False),
        (b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nhi", b"hi", False),
        (b"HTTP/1.1 204 No\r\n\r\n", b"", True),
    ],
)
def test_answers(data: bytes, content: bytes, keep: bool, step: int) -> None:
    _, got, stream = exchange(data, step)
    assert got == content
    assert stream.complete
    assert stream.end() is keep


def test_known_heads_are_not_parsed_again() -> None:
    known: dict[bytes, Head] = {}
    heads = []
    for _ in range(2):
        channel: Any = Pieces(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", 1000)
        heads.append(Backend1Stream(channel, "GET", known).read_head())
    assert heads[0] is heads[1]
    assert heads[0].is_known


def test_an_answer_that_ends_early() -> None:
    for data in (b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhel", b"HTTP/1.1 200"):
        with pytest.raises(BadAnswer):
            exchange(data, 1000)
    with pytest.raises(ConnectionAbortedError):
        exchange(b"", 1000)


def test_requests_in_pieces() -> None:
    channel: Any = Pieces(b"", 1)
    stream = Backend1Stream(channel, "POST", {})
    stream.chunked = True
    stream.send_data(b"abc")
    stream.send_data(b"")
    stream.finish([(b"x-t", b"1")])
    assert channel.sent == b"3\r\nabc\r\n0\r\nx-t: 1\r\n\r\n"
    assert stream.sent
