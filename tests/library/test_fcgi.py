"""FastCGI records both ways: whole, byte by byte, with tails, and lies."""

from __future__ import annotations

from struct import pack

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hemi.library import fcgi
from hemi.library.fcgi import FCGIError, Reader

END = pack(">BBHHBx", 1, fcgi.END_REQUEST, 1, 8, 0) + bytes(8)


def record(kind: int, data: bytes, request: int = 1, padding: int = 0, version: int = 1) -> bytes:
    return pack(">BBHHBx", version, kind, request, len(data), padding) + data + b"\xff" * padding


def split(data: bytes) -> list[tuple[int, bytes]]:
    """The records in what a server sends."""
    found = []
    while data:
        version, kind, request, size, padding = fcgi._HEAD.unpack_from(data)
        assert (version, request) == (1, 1)
        found.append((kind, data[8 : 8 + size]))
        data = data[8 + size + padding :]
    return found


def decode(block: bytes) -> list[tuple[bytes, bytes]]:
    """The pairs in a block of parameters, by the specification's own words."""
    pairs, at = [], 0

    def size() -> int:
        nonlocal at
        if block[at] < 128:
            at += 1
            return block[at - 1]
        at += 4
        return int.from_bytes(block[at - 4 : at], "big") & 0x7FFFFFFF

    while at < len(block):
        name_size, value_size = size(), size()
        pairs.append((block[at : at + name_size], block[at + name_size : at + name_size + value_size]))
        at += name_size + value_size
    return pairs


def test_begin() -> None:
    assert fcgi.begin(False) == b"\1\1\0\1\0\10\0\0" + b"\0\1\0\0\0\0\0\0"
    assert fcgi.begin(True) == b"\1\1\0\1\0\10\0\0" + b"\0\1\1\0\0\0\0\0"


@given(st.lists(st.tuples(st.binary(min_size=1, max_size=300), st.binary(max_size=300)), max_size=20))
def test_parameters_come_back(pairs: list[tuple[bytes, bytes]]) -> None:
    records = split(fcgi.parameters(fcgi.encode(pairs)))
    assert all(kind == fcgi.PARAMS for kind, _ in records)
    assert records[-1][1] == b""
    assert decode(b"".join(data for _, data in records)) == pairs


def test_large_parameters_need_several_records() -> None:
    pairs = [(b"A" * 200, b"a" * 100_000), (b"B", b"b" * 70_000)]
    records = split(fcgi.parameters(fcgi.encode(pairs)))
    assert len(records) == 4  # three full ones, and the empty one
    assert decode(b"".join(data for _, data in records)) == pairs


@given(st.binary(max_size=200_000))
def test_content_comes_back(data: bytes) -> None:
    records = split(fcgi.content(data))
    assert b"".join(piece for _, piece in records) == data
    assert all(kind == fcgi.STDIN and 0 < len(piece) < 65536 for kind, piece in records)


@given(
    st.lists(
        st.tuples(st.sampled_from([fcgi.STDOUT, fcgi.STDERR]), st.binary(max_size=50), st.integers(0, 255))
    ),
    st.data(),
)
def test_any_split_reads_the_same(records: list[tuple[int, bytes, int]], data: st.DataObject) -> None:
    wire = b"".join(record(kind, piece, padding=padding) for kind, piece, padding in records) + END
    reader, out, at = Reader(), b"", 0
    while at < len(wire):
        size = data.draw(st.integers(1, len(wire) - at))
        assert not reader.done
        out += reader.feed(wire[at : at + size])
        at += size
    assert reader.done and not reader.excess
    assert out == b"".join(piece for kind, piece, _ in records if kind == fcgi.STDOUT)
    assert b"".join(reader.errors) == b"".join(piece for kind, piece, _ in records if kind == fcgi.STDERR)


def test_byte_by_byte_with_padding_behind_the_end() -> None:
    wire = record(fcgi.STDOUT, b"hello", padding=3) + pack(">BBHHBx", 1, 3, 1, 8, 4) + b"\0\0\1\2" + bytes(8)
    reader = Reader()
    out = b""
    for at in range(len(wire)):
        assert not reader.done
        out += reader.feed(wire[at : at + 1])
    assert (out, reader.done, reader.app_status) == (b"hello", True, 258)


def test_what_has_come_of_a_record_is_given_at_once() -> None:
    reader = Reader()
    assert reader.feed(record(fcgi.STDOUT, b"hello")[:10]) == b"he"


def test_a_tail_behind_the_end_is_told() -> None:
    reader = Reader()
    assert reader.feed(record(fcgi.STDOUT, b"a") + END + record(fcgi.STDOUT, b"b")) == b"a"
    assert reader.done and reader.excess


def test_management_records_are_passed_over() -> None:
    reader = Reader()
    assert (
        reader.feed(record(fcgi.UNKNOWN_TYPE, bytes(8), request=0) + record(fcgi.STDOUT, b"a") + END) == b"a"
    )


@pytest.mark.parametrize(
    ("wire", "reason"),
    [
        (b"HTTP/1.1 200 OK\r\n", "not FastCGI: a record has the version 72"),
        (record(fcgi.STDOUT, b"a", version=2), "version 2"),
        (record(fcgi.STDOUT, b"a", request=2), "for request 2, which nobody has made"),
        (record(fcgi.STDOUT, b"a", request=0), "for request 0"),
        (record(fcgi.STDIN, b"a"), "the type 5"),
        (record(99, b"a"), "the type 99"),
        (record(fcgi.UNKNOWN_TYPE, bytes(8), request=1), "the type 11"),
        (record(fcgi.END_REQUEST, b"\0" * 4), "has 4 bytes, not 8"),
        (record(fcgi.END_REQUEST, b"\0\0\0\0\2\0\0\0"), "it is overloaded"),
        (record(fcgi.END_REQUEST, b"\0\0\0\0\1\0\0\0"), "cannot multiplex"),
        (record(fcgi.END_REQUEST, b"\0\0\0\0\3\0\0\0"), "the role"),
        (record(fcgi.END_REQUEST, b"\0\0\0\0\x09\0\0\0"), "protocol status 9"),
    ],
)
def test_lies(wire: bytes, reason: str) -> None:
    with pytest.raises(FCGIError, match=reason):
        Reader().feed(wire)
    reader = Reader()
    with pytest.raises(FCGIError, match=reason):
        for at in range(len(wire)):
            reader.feed(wire[at : at + 1])


@given(st.binary(max_size=300))
def test_garbage_never_breaks_the_reader(wire: bytes) -> None:
    try:
        Reader().feed(wire)
    except FCGIError:
        pass


@given(
    st.binary(max_size=300),
    st.integers(0, 255),
    st.booleans(),
    st.lists(st.tuples(st.integers(0, 400), st.integers(0, 255)), max_size=2),
    st.binary(max_size=3),
)
def test_what_is_whole_is_what_the_reader_reads(
    output: bytes, padding: int, empty: bool, changes: list[tuple[int, int]], tail: bytes
) -> None:
    """Of any bytes at all: `whole` sees nothing that the reader would not, and says None for the rest."""
    data = bytearray(pack(">BBHHBx", 1, fcgi.STDOUT, 1, len(output), padding) + output + bytes(padding))
    data += pack(">BBHHBx", 1, fcgi.STDOUT, 1, 0, 0) * empty
    data += pack(">BBHHBx", 1, fcgi.END_REQUEST, 1, 8, 0) + bytes(8) + tail
    for at, byte in changes:
        data[at % len(data)] = byte
    place = fcgi.whole(bytes(data))
    if place is None:
        assert changes or tail
        return
    reader = Reader()
    assert reader.feed(bytes(data)) == bytes(data[place[0] : place[1]])
    assert reader.done and not reader.excess and not reader.errors
