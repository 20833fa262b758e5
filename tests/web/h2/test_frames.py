"""Frames as bytes: the table, payloads, and what is written. Checked against hyperframe, which others wrote."""

from __future__ import annotations

import pytest
from hyperframe.frame import (
    ContinuationFrame,
    Frame,
    GoAwayFrame,
    HeadersFrame,
    RstStreamFrame,
    WindowUpdateFrame,
)

from hemi.web.h2 import frames
from hemi.web.h2.errors import FRAME_SIZE_ERROR, PROTOCOL_ERROR, ConnectionFault, StreamFault
from hemi.web.h2.frames import KINDS


def parsed(data: bytes) -> list[Frame]:
    """What hyperframe makes of it."""
    found = []
    view = memoryview(data)
    while view:
        one, size = Frame.parse_frame_header(view[:9])
        one.parse_body(view[9 : 9 + size])
        found.append(one)
        view = view[9 + size :]
    return found


def test_what_is_written() -> None:
    (reset,) = parsed(frames.reset_frame(3, 8))
    assert isinstance(reset, RstStreamFrame) and (reset.stream_id, reset.error_code) == (3, 8)
    (window,) = parsed(frames.window_frame(0, 77))
    assert isinstance(window, WindowUpdateFrame) and window.window_increment == 77
    (goaway,) = parsed(frames.goaway_frame(5, 11, "calm down"))
    assert isinstance(goaway, GoAwayFrame)
    assert (goaway.last_stream_id, goaway.error_code, goaway.additional_data) == (5, 11, b"calm down")


@pytest.mark.parametrize("size", [0, 9, 10, 11, 20, 25])
def test_blocks_are_cut(size: int) -> None:
    block = bytes(range(size))
    first, *rest = parsed(frames.headers_frames(7, block, frames.END_STREAM, 10))
    assert isinstance(first, HeadersFrame) and "END_STREAM" in first.flags
    assert all(isinstance(one, ContinuationFrame) for one in rest)
    assert first.data + b"".join(one.data for one in rest) == block
    assert ["END_HEADERS" in one.flags for one in (first, *rest)] == [False] * len(rest) + [True]
    assert {one.stream_id for one in (first, *rest)} == {7}


def test_the_table_of_demands() -> None:
    frames.check(KINDS[frames.PING], 0, 8)
    frames.check(KINDS[frames.DATA], 1, 0)
    for kind, sid, size, code in (
        (frames.PING, 0, 7, FRAME_SIZE_ERROR),
        (frames.PING, 1, 8, PROTOCOL_ERROR),
        (frames.DATA, 0, 1, PROTOCOL_ERROR),
        (frames.GOAWAY, 0, 7, FRAME_SIZE_ERROR),
        (frames.RST_STREAM, 1, 5, FRAME_SIZE_ERROR),
    ):
        with pytest.raises(ConnectionFault) as error:
            frames.check(KINDS[kind], sid, size)
        assert error.value.code == code
    with pytest.raises(StreamFault):
        frames.check(KINDS[frames.PRIORITY], 1, 4)


def test_padding() -> None:
    assert frames.unpad(0, b"\x01ab") == b"\x01ab"
    assert frames.unpad(frames.PADDED, b"\x01ab\0") == b"ab"
    assert frames.unpad(frames.PADDED, b"\0") == b""
    for payload in (b"", b"\x01", b"\x04ab\0"):
        with pytest.raises(ConnectionFault):
            frames.unpad(frames.PADDED, payload)


def test_headers_with_all_around_them() -> None:
    both = frames.PADDED | frames.WITH_PRIORITY
    assert frames.split_headers(1, both, b"\x01\0\0\0\x07\x10block\0") == b"block"
    with pytest.raises(ConnectionFault):
        frames.split_headers(7, both, b"\x01\0\0\0\x07\x10block\0")
    with pytest.raises(ConnectionFault):
        frames.split_headers(1, frames.WITH_PRIORITY, b"\0\0")
