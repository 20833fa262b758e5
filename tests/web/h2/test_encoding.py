"""Field blocks: what we encode is what foreign decoders read, and what we decode is what foreign encoders wrote."""

from __future__ import annotations

import pytest
from hpack import Decoder, Encoder
from hypothesis import given
from hypothesis import strategies as st

from hemi.web.h2.encoding import (
    STATUS_BLOCKS,
    BlockDecoder,
    encode_field,
    field_block,
    length_block,
    lines_block,
)
from hemi.web.h2.errors import COMPRESSION_ERROR, ENHANCE_YOUR_CALM, ConnectionFault

NAMES = st.sampled_from([b"content-type", b"x-a", b"etag", b"set-cookie", b"location", b"x-" + b"y" * 200])


@given(st.lists(st.tuples(NAMES, st.binary(max_size=400)), max_size=10))
def test_what_we_write_can_be_read(fields: list[tuple[bytes, bytes]]) -> None:
    for encode in (field_block, lambda field: encode_field(*field)):
        block = b"".join(encode(field) for field in fields)
        decoder = Decoder(1 << 20)
        assert list(decoder.decode(block, raw=True)) == fields
        assert not decoder.header_table.dynamic_entries


def test_statuses_and_lengths() -> None:
    for status in (100, 103, 200, 204, 301, 404, 418, 599):
        assert Decoder().decode(STATUS_BLOCKS[status]) == [(":status", str(status))]
    for size in (0, 9, 123456789012345678):
        assert Decoder().decode(length_block(size)) == [("content-length", str(size))]


def test_lines_of_http_1() -> None:
    lines = b"Server: gorox\r\nx-empty: \r\nconnection: close\r\nvary: a, b\r\n"
    fields = [("server", "gorox"), ("x-empty", ""), ("vary", "a, b")]
    assert Decoder().decode(lines_block(lines)) == fields
    assert lines_block(lines) is lines_block(lines)
    assert lines_block(b"") == b""


def test_fields_of_http_1_have_no_place() -> None:
    for name in (b"connection", b"keep-alive", b"transfer-encoding", b"upgrade", b"proxy-connection"):
        assert field_block((name, b"x")) == b""


def test_secrets_are_never_to_be_indexed() -> None:
    assert field_block((b"set-cookie", b"a=b"))[0] & 0xF0 == 0x10
    assert field_block((b"x-other", b"a=b"))[0] & 0xF0 == 0


@given(st.lists(st.lists(st.tuples(NAMES, st.binary(max_size=50)), max_size=6), max_size=6))
def test_what_others_write_can_be_read(blocks: list[list[tuple[bytes, bytes]]]) -> None:
    encoder, decoder = Encoder(), BlockDecoder(4096, 1 << 20)
    for fields in blocks:
        assert decoder.decode(encoder.encode(fields)) == fields


def test_the_generation_tells_whether_a_block_still_means_the_same() -> None:
    encoder, decoder = Encoder(), BlockDecoder(4096, 1 << 20)
    first = encoder.encode([(b"x", b"y")])
    again = encoder.encode([(b"x", b"y")])
    before = decoder.table.generation
    decoder.decode(first)
    changed = decoder.table.generation
    assert changed != before
    decoder.decode(again)
    assert decoder.table.generation == changed
    decoder.decode(b"\x20")  # an empty table
    assert decoder.table.generation != changed


@pytest.mark.parametrize(
    "block", [b"\x80", b"\xff\x80\x80\x80\x80\x80\x01", b"\x00", b"\x40\x05ab", b"\x3f\xe2\xff\x01"]
)
def test_broken_blocks(block: bytes) -> None:
    with pytest.raises(ConnectionFault) as error:
        BlockDecoder(4096, 1 << 20).decode(block)
    assert error.value.code == COMPRESSION_ERROR


def test_blocks_that_become_too_large() -> None:
    block = Encoder().encode([(b"x", b"y" * 3000)]) + b"\xbe" * 100
    with pytest.raises(ConnectionFault) as error:
        BlockDecoder(4096, 10_000).decode(block)
    assert error.value.code == ENHANCE_YOUR_CALM


def test_a_smaller_table_holds_once_it_is_acknowledged() -> None:
    decoder = BlockDecoder(100, 1 << 20)
    decoder.decode(Encoder().encode([(b"x", b"y")]))
    decoder.limit(100)
    with pytest.raises(ConnectionFault):
        decoder.decode(b"\x82")
    decoder = BlockDecoder(100, 1 << 20)
    decoder.limit(100)
    assert decoder.decode(b"\x3f\x45\x82") == [(b":method", b"GET")]
