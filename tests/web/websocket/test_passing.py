"""Where frames end in what is passed on."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hemi.web.websocket.frames import BINARY, CLOSE, PING, TEXT, Control, Decoder, build_frame, parse_close
from hemi.web.websocket.passing import FrameFollower, masked_close
from tests.web.websocket.wskit import frame

SIZES = st.sampled_from([0, 1, 125, 126, 127, 65535, 65536, 70_000])


def sample(masked: bool, opcode: int, size: int) -> bytes:
    return frame(0x80 | opcode, bytes(size)) if masked else build_frame(opcode, bytes(size))


@settings(max_examples=30)
@given(st.booleans(), st.lists(SIZES, max_size=6), st.lists(st.integers(1, 9000), min_size=1, max_size=9))
def test_in_any_pieces(masked: bool, sizes: list[int], cuts: list[int]) -> None:
    frames = [sample(masked, PING if size == 125 else BINARY, size) for size in sizes]
    data, ends, end = b"".join(frames), {0}, 0
    for one in frames:
        end += len(one)
        ends.add(end)
    follower = FrameFollower(masked)
    at = turn = 0
    while at < len(data):
        piece = data[at : at + cuts[turn % len(cuts)]]
        follower.follow(piece)
        at, turn = at + len(piece), turn + 1
        assert follower.between is (at in ends)
    assert not follower.closing
    assert not follower.lost


@pytest.mark.parametrize("size", [0, 5, 125, 126, 70_000])
@pytest.mark.parametrize("masked", [False, True])
def test_the_rest_of_a_frame(masked: bool, size: int) -> None:
    first = sample(masked, TEXT, size)
    for cut in {0, 1, 2, 3, 7, len(first) - 1, len(first)}:
        if cut > len(first):
            continue
        follower = FrameFollower(masked)
        follower.follow(first[:cut])
        assert follower.rest(first[cut:] + sample(masked, TEXT, 3)) == (len(first) - cut if cut else 0)
        assert follower.between


def test_byte_by_byte() -> None:
    follower = FrameFollower(True)
    for at in range(len(data := sample(True, TEXT, 200))):
        assert follower.rest(data[at : at + 1]) == (0 if at == 0 else 1)
        if at == 0:
            follower.follow(data[:1])
    assert follower.between


def test_a_close_frame_is_noticed() -> None:
    follower = FrameFollower(False)
    follower.follow(build_frame(TEXT, b"x") + build_frame(CLOSE, b"\x03\xe8")[:2])
    assert follower.closing
    assert not follower.between


@pytest.mark.parametrize(
    ("masked", "data"),
    [
        (False, frame(0x81, b"of a client")),
        (True, build_frame(TEXT, b"of a server")),
        (False, b"HTTP/1.1 200 OK"),
        (False, b"\x09\x00"),  # a ping in fragments
        (False, b"\x89\x7e\x00\x80"),  # a ping of 128 bytes
        (False, b"\x82\x7f\xff\xff\xff\xff\xff\xff\xff\xff"),
    ],
)
def test_what_are_no_frames(masked: bool, data: bytes) -> None:
    follower = FrameFollower(masked)
    follower.follow(data)
    assert follower.lost
    assert not follower.between
    follower.follow(data)


def test_masked_close() -> None:
    decoder = Decoder(1000, 1000)
    decoder.feed(masked_close(1001, "going"))
    item = decoder.next()
    assert isinstance(item, Control)
    assert parse_close(item.payload) == (1001, "going")
    assert masked_close(1001, "") != masked_close(1001, ""), "the key is random"
    with pytest.raises(ValueError, match="code"):
        masked_close(1005, "")
