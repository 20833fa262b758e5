"""Frames and messages: whole, byte by byte, and with something behind; against wsproto's encoder; what must fail."""

from __future__ import annotations

import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from wsproto.extensions import PerMessageDeflate
from wsproto.frame_protocol import FrameProtocol

from hemi.web.websocket import frames
from hemi.web.websocket.deflate import Inflater, deflate
from hemi.web.websocket.frames import (
    Control,
    Decoder,
    Failure,
    build_frame,
    close_payload,
    parse_close,
    unmask,
)
from tests.web.websocket.wskit import frame

KEY = b"\x37\xfa\x21\x3d"


def read(data: bytes, step: int = 0, **limits: int) -> list[object]:
    """All that a decoder makes of bytes: items, and at the end the code of a failure."""
    decoder = Decoder(limits.get("max_frame", 1 << 20), limits.get("max_message", 1 << 20), Inflater())
    items: list[object] = []
    try:
        for at in range(0, len(data), step or len(data) or 1):
            decoder.feed(data[at : at + (step or len(data))])
            while (item := decoder.next()) is not None:
                items.append(item)
    except Failure as failure:
        items.append(failure.code)
    return items


def test_the_examples_of_rfc_6455_5_7() -> None:
    assert read(b"\x81\x85\x37\xfa\x21\x3d\x7f\x9f\x4d\x51\x58") == ["Hello"]
    assert read(b"\x89\x85\x37\xfa\x21\x3d\x7f\x9f\x4d\x51\x58") == [Control(9, b"Hello")]
    assert build_frame(1, b"Hello") == b"\x81\x05Hello"
    assert build_frame(2, bytes(256))[:4] == b"\x82\x7e\x01\x00"
    assert build_frame(2, bytes(65536))[:10] == b"\x82\x7f\0\0\0\0\0\x01\0\0"


@pytest.mark.parametrize("size", [0, 1, 3, 4, 5, 125, 384, 385, 1000, 4099])
@pytest.mark.parametrize("fast", [True, False])
def test_unmasking(size: int, fast: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if not fast:
        monkeypatch.setitem(sys.modules, "websockets.speedups", None)
    monkeypatch.setattr(frames, "_unmask_large", frames._choose)
    data = bytes(at * 7 & 255 for at in range(size))
    assert unmask(data, KEY) == bytes(byte ^ KEY[at & 3] for at, byte in enumerate(data))


MESSAGES = [
    (frame(0x81, b"a"), ["a"]),
    (frame(0x82, b"a"), [b"a"]),
    (frame(0x81), [""]),
    (frame(0x82), [b""]),
    (frame(0x01) + frame(0x80), [""]),
    (frame(0x82, bytes(126)), [bytes(126)]),
    (frame(0x82, bytes(70_000)), [bytes(70_000)]),
    (frame(0x01, b"a") + frame(0x00, b"b") + frame(0x80, b"c"), ["abc"]),
    (frame(0x02, b"a") + frame(0x89, b"?") + frame(0x80, b"c"), [Control(9, b"?"), b"ac"]),
    (frame(0x01, b"\xe2") + frame(0x8A) + frame(0x80, b"\x82\xac"), [Control(10, b""), "€"]),
    (frame(0x88, b"\x03\xe8ok"), [Control(8, b"\x03\xe8ok")]),
    (frame(0x89, b"x" * 125), [Control(9, b"x" * 125)]),
    (frame(0xC1, deflate(b"hello " * 9, 15)), ["hello " * 9]),
    (
        frame(0x42, deflate(b"hello " * 9, 15)[:5]) + frame(0x80, deflate(b"hello " * 9, 15)[5:]),
        [b"hello " * 9],
    ),
    (frame(0xC1), [""]),
    (frame(0xC1, b"\0"), [""]),  # an empty message, compressed (RFC 7692 §7.2.3.6)
    (frame(0xC1, b"\xf3\x48\xcd\xc9\xc9\x07\0\0"), ["Hello"]),  # a final block, and padding (§7.2.3.4)
    (frame(0xC1, b"\0\x05\0\xfa\xffHello\0"), ["Hello"]),  # not compressed inside (§7.2.3.3)
]


@pytest.mark.parametrize(("data", "items"), MESSAGES)
def test_messages(data: bytes, items: list[object]) -> None:
    assert read(data) == items
    if len(data) < 1000:
        assert read(data, 1) == items
    assert read(data, 37) == items
    assert read(data + data) == items * 2
    assert read(data + frame(0x81, b"x" * 50)[:-1]) == items


FAILURES = {
    "unmasked": (frame(0x81, b"a", None), 1002),
    "unmasked and long": (b"\x82\x7f", 1002),
    "rsv2": (frame(0xA1, b"a"), 1002),
    "rsv3": (frame(0x91, b"a"), 1002),
    "rsv1 on a continuation": (frame(0x01, b"a") + frame(0xC0, b"a"), 1002),
    "rsv1 on a ping": (frame(0xC9), 1002),
    **{f"opcode {opcode}": (frame(0x80 | opcode), 1002) for opcode in (3, 4, 5, 6, 7, 11, 12, 13, 14, 15)},
    "a long ping": (frame(0x89, bytes(126)), 1002),
    "a ping in fragments": (frame(0x09), 1002),
    "a close in fragments": (frame(0x08), 1002),
    "a continuation of nothing": (frame(0x80, b"a"), 1002),
    "a message within a message": (frame(0x01, b"a") + frame(0x81, b"b"), 1002),
    "16 bits for a small length": (b"\x82\xfe\0\x7d", 1002),
    "64 bits for a small length": (b"\x82\xff\0\0\0\0\0\0\xff\xff", 1002),
    "a length with the highest bit": (b"\x82\xff\x80\0\0\0\0\0\0\0", 1002),
    "bad UTF-8": (frame(0x81, b"\xff"), 1007),
    "an end within a character": (frame(0x81, b"\xe2\x82"), 1007),
    "a surrogate": (frame(0x81, b"\xed\xa0\x80"), 1007),
    "beyond Unicode": (frame(0x81, b"\xf4\x90\x80\x80"), 1007),
    "an overlong form": (frame(0x81, b"\xc0\xaf"), 1007),
    "bad UTF-8 in the first fragment": (frame(0x01, b"a\xff"), 1007),
    "bad UTF-8 in the begin of a frame": (frame(0x81, b"a\xff" + bytes(200))[:20], 1007),
    "an end within a character of fragments": (frame(0x01, b"\xe2") + frame(0x80, b"\x82"), 1007),
    "bad UTF-8 inflated": (frame(0xC1, deflate(b"\xff", 15)), 1007),
    "no deflate": (frame(0xC1, b"\xff\xff\xff"), 1007),
    "something behind a final block": (frame(0xC1, b"\xf3\x48\xcd\xc9\xc9\x07\0x"), 1007),
    "a stored block that lies": (frame(0xC2, b"\0\x05\0\0\0Hello"), 1007),
    "too large a frame": (frame(0x82, size=1 << 21), 1009),
    "too large a message": (frame(0x02, bytes(600_000)) + frame(0x80, size=600_000), 1009),
    "too large when inflated": (frame(0xC2, deflate(bytes((1 << 20) + 1), 15)), 1009),
    "too large in the end": (
        frame(0x42, deflate(bytes(1 << 20), 15)) + frame(0x80, b"\0\0\xff\xff" + deflate(b"x", 15)),
        1009,
    ),
    "empty fragments": (frame(0x01) + frame(0x00) * 1024, 1008),
    "tiny fragments": (frame(0x01) + frame(0x00, b"x") * 1100, 1008),
}


@pytest.mark.parametrize(("data", "code"), FAILURES.values(), ids=FAILURES)
def test_failures(data: bytes, code: int) -> None:
    assert read(data) == [code]
    assert read(data, 13) == [code]
    good = frame(0x81, b"a")
    assert read(good + data) == ["a", code]


def test_a_continuation_behind_the_end() -> None:
    assert read(frame(0x01) + frame(0x80) + frame(0x80)) == ["", 1002]


def test_limits_are_inclusive() -> None:
    for size in (100, 1000):
        assert read(frame(0x82, bytes(size)), max_message=size) == [bytes(size)]
        assert read(frame(0x82, bytes(size)), max_message=size - 1) == [1009]
        assert read(frame(0x82, bytes(size)), max_frame=size - 1) == [1009]
        packed = frame(0xC2, deflate(bytes(size), 15))
        assert read(packed, max_message=size) == [bytes(size)]
        assert read(packed, max_message=size - 1) == [1009]


def test_many_fragments_that_are_not_tiny() -> None:
    data = frame(0x02, bytes(64)) + frame(0x00, bytes(64)) * 9_999 + frame(0x80)
    assert read(data) == [bytes(640_000)]


def test_without_an_extension() -> None:
    decoder = Decoder(100, 100)
    decoder.feed(frame(0xC1, b"a"))
    with pytest.raises(Failure, match="nothing was agreed on"):
        decoder.next()


def test_a_client_reads_what_is_not_masked() -> None:
    decoder = Decoder(1 << 20, 1 << 20, masked=False)
    for payload in (b"", b"a", bytes(200), bytes(70_000)):
        decoder.feed(build_frame(2, payload))
        assert decoder.next() == payload
    decoder.feed(frame(0x81, b"a"))
    with pytest.raises(Failure, match="masked"):
        decoder.next()


@pytest.mark.parametrize("code", [1000, 1001, 1002, 1003, 1007, 1011, 1014, 3000, 4999])
def test_close_codes(code: int) -> None:
    assert parse_close(close_payload(code, "why ü")) == (code, "why ü")


@pytest.mark.parametrize("code", [0, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000, 65535])
def test_close_codes_that_must_not_be(code: int) -> None:
    with pytest.raises(ValueError, match="close code"):
        close_payload(code, "")
    with pytest.raises(Failure, match="1002"):
        parse_close(code.to_bytes(2))


def test_close_frames() -> None:
    assert parse_close(b"") == (1005, "")
    with pytest.raises(Failure, match="1002"):
        parse_close(b"\x03")
    with pytest.raises(Failure, match="1007"):
        parse_close(b"\x03\xe8\xff")
    close_payload(1000, "x" * 123)
    with pytest.raises(ValueError, match="123 bytes"):
        close_payload(1000, "ü" * 62)


@settings(max_examples=150, deadline=None)
@given(
    st.lists(st.one_of(st.text(max_size=400), st.binary(max_size=400)), max_size=8),
    st.booleans(),
    st.integers(1, 300),
    st.integers(1, 200),
)
def test_what_wsproto_sends(messages: list[str | bytes], packed: bool, cut: int, step: int) -> None:
    extension = PerMessageDeflate(client_no_context_takeover=True)
    peer = FrameProtocol(True, [extension] if packed else [])
    data = b""
    for message in messages:
        for at in range(0, len(message), cut):
            data += peer.send_data(message[at : at + cut], fin=at + cut >= len(message))
        if not message:
            data += peer.send_data(message, fin=True)
    assert read(data, step) == messages


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=200), st.integers(1, 50))
def test_garbage_never_does_anything_else(data: bytes, step: int) -> None:
    for item in read(data, step):
        assert (
            item in (1002, 1007, 1008, 1009)
            if isinstance(item, int)
            else isinstance(item, (str, bytes, Control))
        )
    assert read(data, step) == read(data)
