"""Frames: whole, byte by byte, with a tail, and what is no frame."""

from __future__ import annotations

import json
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hemi.procmgr.messages import Decoder, MessageError, encode

MESSAGES = [{"hello": "key"}, {"answer": 1, "result": {"lines": ["grün", "\ud800", ""]}}, {}]
TEXT = st.text(max_size=12)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=6,
)


def body(data: bytes) -> bytes:
    return struct.pack(">4sI", b"GRX1", len(data)) + data


def test_whole() -> None:
    decoder = Decoder()
    for message in MESSAGES[::2]:
        assert decoder.feed(encode(message)) == [message]


def test_byte_by_byte_and_with_a_tail() -> None:
    wire = b"".join(encode(message) for message in MESSAGES[::2]) + encode({"cut": 1})[:-1]
    decoder = Decoder()
    got = [message for index in range(len(wire)) for message in decoder.feed(wire[index : index + 1])]
    assert got == MESSAGES[::2]


@given(st.lists(st.dictionaries(TEXT, JSON, max_size=4), max_size=4), st.integers(1, 40))
def test_any_messages_in_any_pieces(messages: list[dict[str, object]], size: int) -> None:
    wire = b"".join(encode(message) for message in messages)
    decoder = Decoder()
    got = [each for start in range(0, len(wire), size) for each in decoder.feed(wire[start : start + size])]
    assert got == [json.loads(json.dumps(message)) for message in messages]


@given(st.binary(max_size=200))
def test_any_bytes_give_messages_or_an_error(data: bytes) -> None:
    try:
        assert all(isinstance(message, dict) for message in Decoder(100).feed(data))
    except MessageError:
        pass


@pytest.mark.parametrize(
    ("wire", "text"),
    [
        (b"GET / HTTP/1.1\r\n", "this is no message of gorox"),
        (b"GRX2", "this is no message of gorox"),
        (struct.pack(">4sI", b"GRX1", 101), "must not be larger than 100 bytes, this one has 101"),
        (struct.pack(">4sI", b"GRX1", 2**32 - 1), "must not be larger than 100 bytes"),
        (body(b"[1]"), "must be a JSON object"),
        (body(b"{"), "must be JSON"),
        (body(b"\xff\xfe"), "must be JSON"),
        (body(b"[" * 100), "must be JSON"),
    ],
)
def test_what_is_no_message(wire: bytes, text: str) -> None:
    with pytest.raises(MessageError, match=text):
        Decoder(100).feed(wire)


def test_a_stranger_is_told_by_the_first_byte() -> None:
    with pytest.raises(MessageError):
        Decoder().feed(b"H")


def test_deep_nesting_is_no_message() -> None:
    with pytest.raises(MessageError):
        Decoder().feed(body(b"[" * 200_000))


def test_too_large_to_send() -> None:
    with pytest.raises(MessageError, match="must not be larger than 10 bytes"):
        encode({"text": "0123456789"}, 10)


def test_the_limit_can_be_raised() -> None:
    decoder = Decoder(10)
    decoder.limit = 1000
    assert decoder.feed(encode({"text": "0" * 100})) == [{"text": "0" * 100}]
