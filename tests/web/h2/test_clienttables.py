"""Field blocks towards nodes, beside the `hpack` package's own."""

from __future__ import annotations

import hpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hemi.web.h2.clienttables import Decoder, Encoder
from hemi.web.h2.errors import ConnectionFault

names = st.sampled_from([b":status", b":path", b"x-a", b"content-type", b"authorization", b"date", b"cookie"])
fields = st.lists(st.tuples(names, st.binary(max_size=200)), max_size=8)


def test_fields_of_the_static_table_are_a_byte() -> None:
    encoder = Encoder()
    assert encoder.encode([(b":method", b"GET"), (b":scheme", b"http")]) == b"\x20\x82\x86"
    assert encoder.encode([(b":method", b"GET")]) == b"\x82"


@given(st.lists(fields, max_size=5))
def test_others_understand_what_is_encoded(blocks: list[list[tuple[bytes, bytes]]]) -> None:
    encoder, decoder = Encoder(), hpack.Decoder()
    decoder.max_allowed_table_size = 0
    for block in blocks:
        assert decoder.decode(encoder.encode(block), raw=True) == block
    assert len(decoder.header_table.dynamic_entries) == 0


@given(st.lists(fields, max_size=6), st.lists(st.integers(0, 5), max_size=20), st.integers(0, 4096))
def test_what_others_encode_is_understood(
    blocks: list[list[tuple[bytes, bytes]]], order: list[int], size: int
) -> None:
    encoder, decoder = hpack.Encoder(), Decoder(4096, 1 << 20)
    encoder.header_table_size = size
    for number in order:
        block = blocks[number] if number < len(blocks) else []
        assert decoder.decode(encoder.encode(block)) == block


def test_a_block_is_remembered_while_the_table_stays() -> None:
    encoder, decoder = hpack.Encoder(), Decoder(4096, 1 << 20)
    first = encoder.encode([(b"a", b"b")])
    second = encoder.encode([(b"a", b"b")])
    assert first != second  # the second one is an index
    decoder.decode(first)
    assert decoder.decode(second) is decoder.decode(second) == [(b"a", b"b")]
    third = encoder.encode([(b"c", b"d")])
    decoder.decode(third)
    assert decoder.decode(second) == [(b"c", b"d")]  # the same index points to another entry now


def test_bombs_and_nonsense() -> None:
    with pytest.raises(ConnectionFault):
        Decoder(4096, 100).decode(hpack.Encoder().encode([(b"a", b"b" * 200)]))
    with pytest.raises(ConnectionFault):
        Decoder(4096, 100).decode(b"\xff\xff\xff\xff")
