"""SCGI heads."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hemi.library import scgi


def decode(data: bytes) -> tuple[list[tuple[bytes, bytes]], bytes]:
    """The variables of a request, and what follows them."""
    size, _, rest = data.partition(b":")
    block, comma, content = rest[: int(size)], rest[int(size) : int(size) + 1], rest[int(size) + 1 :]
    assert comma == b","
    words = block.split(b"\0")
    assert words.pop() == b""
    return list(zip(words[::2], words[1::2], strict=True)), content


def test_the_example_of_the_specification() -> None:
    head = scgi.head(scgi.encode([(b"REQUEST_METHOD", b"POST"), (b"REQUEST_URI", b"/deepthought")]), 27)
    assert head == (b"70:CONTENT_LENGTH\x0027\0SCGI\x001\0REQUEST_METHOD\0POST\0REQUEST_URI\0/deepthought\0,")


TEXT = st.binary(max_size=40).map(lambda data: data.replace(b"\0", b""))


@given(st.lists(st.tuples(TEXT.map(lambda name: b"X_" + name), TEXT)), st.integers(0, 1 << 40))
def test_heads_come_back(pairs: list[tuple[bytes, bytes]], size: int) -> None:
    found, rest = decode(scgi.head(scgi.encode(pairs), size) + b"tail")
    assert rest == b"tail"
    assert found == [(b"CONTENT_LENGTH", str(size).encode()), (b"SCGI", b"1"), *pairs]


def test_the_length_is_said_once() -> None:
    found, _ = decode(scgi.head(scgi.encode([(b"CONTENT_LENGTH", b"9"), (b"SCGI", b"2"), (b"A", b"a")]), 3))
    assert found == [(b"CONTENT_LENGTH", b"3"), (b"SCGI", b"1"), (b"A", b"a")]


@pytest.mark.parametrize("pair", [(b"A\0B", b""), (b"A", b"a\0REMOTE_USER\0root")])
def test_a_value_cannot_become_variables(pair: tuple[bytes, bytes]) -> None:
    with pytest.raises(ValueError, match="NUL"):
        scgi.head(scgi.encode([pair]), 0)
