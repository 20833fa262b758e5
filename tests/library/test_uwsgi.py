"""Heads of the uwsgi protocol."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hemi.library import uwsgi


def decode(data: bytes) -> tuple[tuple[int, int], list[tuple[bytes, bytes]], bytes]:
    """The modifiers and variables of a request, and what follows them."""
    size = int.from_bytes(data[1:3], "little")
    block, rest = data[4 : 4 + size], data[4 + size :]
    words, at = [], 0
    while at < size:
        length = int.from_bytes(block[at : at + 2], "little")
        words.append(block[at + 2 : at + 2 + length])
        at += 2 + length
    return (data[0], data[3]), list(zip(words[::2], words[1::2], strict=True)), rest


@given(st.lists(st.tuples(st.binary(max_size=300), st.binary(max_size=300)), max_size=50))
def test_heads_come_back(pairs: list[tuple[bytes, bytes]]) -> None:
    assert decode(uwsgi.head(uwsgi.encode(pairs)) + b"tail") == ((0, 0), pairs, b"tail")


def test_modifiers() -> None:
    assert uwsgi.head(uwsgi.encode([(b"A", b"bc")]), 5, 7) == b"\5\7\0\7\1\0A\2\0bc"


def test_what_is_too_large() -> None:
    assert len(uwsgi.head(uwsgi.encode([(b"A", b"a" * (65535 - 5))]))) == 65539
    with pytest.raises(ValueError, match="more than 65535"):
        uwsgi.head(uwsgi.encode([(b"A", b"a" * (65535 - 4))]))
    with pytest.raises(ValueError, match="more than 65535"):
        uwsgi.head(uwsgi.encode([(b"A", b"a")] * 20_000))
