"""Responses of upstreams, taken apart."""

from __future__ import annotations

import pytest

from hemi.web.h1.answer import CHUNKED, TO_THE_END, BadAnswer, ChunkReader, parse_head


@pytest.mark.parametrize(
    ("block", "status", "size", "keep_alive"),
    [
        (b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n", 200, 5, True),
        (b"HTTP/1.1 200\r\nContent-Length: 5\r\nConnection: close\r\n\r\n", 200, 5, False),
        (b"HTTP/1.1 404 No\r\nTransfer-Encoding: CHUNKED\r\n\r\n", 404, CHUNKED, True),
        (b"HTTP/1.1 200 OK\r\n\r\n", 200, TO_THE_END, True),
        (b"HTTP/1.0 200 OK\r\nContent-Length: 0\r\n\r\n", 200, 0, False),
        (b"HTTP/1.1 101 S\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n", 101, TO_THE_END, True),
    ],
)
def test_heads(block: bytes, status: int, size: int, keep_alive: bool) -> None:
    head = parse_head(block)
    assert (head.status, head.size, head.keep_alive) == (status, size, keep_alive)


def test_fields_are_plain() -> None:
    head = parse_head(b"HTTP/1.1 200 OK\r\nX-A:  b \t\r\nConnection: X-A,  close\r\n\r\n")
    assert head.fields[0] == (b"x-a", b"b")
    assert head.options == {b"x-a", b"close"}
    assert head.get(b"x-a") == b"b"
    assert head.get(b"x-b") is None


@pytest.mark.parametrize(
    "block",
    [
        b"",
        b"\r\n\r\n",
        b"hello\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n",
        b"HTTP/1.1 600 X\r\n\r\n",
        b"HTTP/1.2 200 OK\r\n\r\n",
    ],
)
def test_what_is_no_head(block: bytes) -> None:
    with pytest.raises(BadAnswer):
        parse_head(block)


CHUNKS = b"5\r\nhello\r\n1;x=y\r\n!\r\n0\r\nX-T: 1 \r\n\r\n"


@pytest.mark.parametrize("step", [1, 3, 1000])
def test_chunks(step: int) -> None:
    reader = ChunkReader()
    content = b"".join(reader.feed(CHUNKS[at : at + step]) for at in range(0, len(CHUNKS), step))
    assert content == b"hello!"
    assert reader.complete
    assert not reader.excess
    assert reader.trailers == [(b"x-t", b"1")]


def test_chunks_with_a_tail() -> None:
    for tail in (b"x", b"HTTP/1.1 200 OK\r\n\r\n"):
        reader = ChunkReader()
        assert reader.feed(CHUNKS + tail) == b"hello!"
        assert reader.complete
        assert reader.excess


def test_wrapping_is_bounded() -> None:
    reader = ChunkReader()
    with pytest.raises(BadAnswer, match="wrapping"):
        for _ in range(1000):
            reader.feed(b"1;" + b"x" * 200 + b"\r\na\r\n")
    reader = ChunkReader(max_trailers=100)
    with pytest.raises(BadAnswer, match="trailers"):
        reader.feed(b"0\r\n" + b"X: y\r\n" * 50)
