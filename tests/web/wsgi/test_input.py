"""wsgi.input against io.BytesIO, which has the semantics of a file."""

from __future__ import annotations

import io
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hemi.web.errors import ClientGone, HTTPError
from hemi.web.wsgi.input import NO_INPUT, Input, InputFailed


def made(pieces: list[bytes], limit: int = 1 << 20, error: BaseException | None = None) -> Input:
    def arrive() -> Iterator[bytes]:
        yield from pieces
        if error is not None:
            raise error

    class Fake:
        owner = SimpleNamespace(max_memory_content_size=limit)

        def __iter__(self) -> Iterator[bytes]:
            return arrive()

    fake: Any = Fake()
    return Input(fake)


CALLS = st.lists(
    st.one_of(
        st.tuples(st.sampled_from(["read", "readline"]), st.one_of(st.none(), st.integers(-1, 12))),
        st.tuples(st.just("readlines"), st.one_of(st.none(), st.integers(-1, 12))),
    ),
    max_size=12,
)


@given(
    st.lists(st.binary(min_size=1, max_size=9).map(lambda data: data.replace(b"a", b"\n")), max_size=8), CALLS
)
def test_it_reads_like_a_file(pieces: list[bytes], calls: list[tuple[str, int | None]]) -> None:
    source, model = made(pieces), io.BytesIO(b"".join(pieces))
    for name, size in calls:
        assert getattr(source, name)(size) == getattr(model, name)(size)
    assert list(source) == list(model)
    assert source.read(5) == b"" and source.read() == b""


def test_pieces_that_end_a_line_are_taken_one_by_one() -> None:
    source = made([b"a\n", b"b\n", b"c"])
    assert [next(source), source.read(1), source.readline(), source.readline()] == [b"a\n", b"b", b"\n", b"c"]
    with pytest.raises(StopIteration):
        next(source)


def test_an_error_is_an_oserror_and_stays() -> None:
    source = made([b"abc"], error=HTTPError(413, "too much", close=True))
    assert source.read(2) == b"ab"
    for _ in range(2):
        with pytest.raises(OSError) as caught:
            source.read(9)
        assert isinstance(caught.value, InputFailed) and caught.value.reason.status == 413
    assert source.failure is caught.value


def test_a_client_that_left_is_an_oserror() -> None:
    with pytest.raises(OSError) as caught:
        made([b"abc"], error=ClientGone("gone")).read()
    assert isinstance(caught.value, ClientGone)


def test_reading_all_is_limited_and_a_line_is_cut_there() -> None:
    with pytest.raises(InputFailed):
        made([b"x" * 60, b"x" * 60], limit=100).read()
    assert len(made([b"x" * 60, b"x" * 60], limit=100).readline()) == 100
    assert len(made([b"x" * 60, b"x" * 60], limit=100).read(120)) == 120


def test_no_input_is_at_its_end() -> None:
    assert NO_INPUT.read() == NO_INPUT.read(5) == NO_INPUT.readline() == NO_INPUT.readline(3) == b""
    assert NO_INPUT.readlines() == list(NO_INPUT) == []
