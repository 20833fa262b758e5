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
from tests.webkit import until
from tests.wsgikit import TEXT, plain, serve


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


# Of a running server


def reads(read: Any) -> Any:
    """An app that answers with what `read(input)` makes of its input."""

    def app(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        content = read(environ["wsgi.input"])
        start_response("200 OK", TEXT)
        return [content]

    return app


@pytest.mark.parametrize("content", [b"a\nbc\n\nd", [b"a", b"\nb", b"c\n", b"\nd"]])
@pytest.mark.parametrize(
    ("read", "expected"),
    [
        (lambda source: source.read(100), b"a\nbc\n\nd"),
        (lambda source: source.read(3) + b"|" + source.read(1) + b"|" + source.read(99), b"a\nb|c|\n\nd"),
        (lambda source: b"|".join(source), b"a\n|bc\n|\n|d"),
        (lambda source: b"|".join(source.readlines()), b"a\n|bc\n|\n|d"),
        (lambda source: source.readline() + b"|" + source.read(50), b"a\n|bc\n\nd"),
        (lambda source: b"".join(iter(lambda: source.read(2), b"")), b"a\nbc\n\nd"),
    ],
)
def test_input_reads_sized_and_chunked_content_alike(content: Any, read: Any, expected: bytes) -> None:
    with serve(reads(read)) as site, site.connect() as client:
        for _ in range(2):
            client.request("POST", content=content)
            assert client.answer().content == expected


def test_input_without_arguments_reads_to_the_end() -> None:
    app = reads(lambda source: source.read() + b"|" + source.read())
    with serve(app, valid=False) as site, site.connect() as client:
        client.request("POST", content=[b"ab", b"c"])
        assert client.answer().content == b"abc|"
        client.request("GET")
        assert client.answer().content == b"|"


def test_the_first_read_asks_for_the_content() -> None:
    with serve(reads(lambda source: source.read(5))) as site, site.connect() as client:
        client.send(b"POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n")
        _, status, _ = client.head()
        assert status == 100
        client.send(b"hello")
        assert client.answer().content == b"hello"


def test_content_that_nobody_reads_does_not_end_the_connection() -> None:
    with serve(plain) as site, site.connect() as client:
        for _ in range(3):
            client.request("POST", content=b"x" * 100_000)
            assert client.answer().content == b"hello"


def test_too_much_content_is_413_even_if_the_app_makes_a_500_of_it() -> None:
    def swallowing(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        try:
            environ["wsgi.input"].read(10_000)
        except OSError:
            start_response("500 Oh", TEXT)
            return [b"oh"]
        return plain(environ, start_response)

    for app in (reads(lambda source: source.read(10_000)), swallowing):
        with serve(app, webapp={"max_content_size": "1K"}) as site, site.connect() as client:
            client.request("POST", content=[b"x" * 900, b"x" * 900])
            assert client.answer().status == 413


def test_reading_all_into_memory_has_a_limit_of_its_own() -> None:
    app, limits = reads(lambda source: source.read()), {"max_memory_content_size": "64K"}
    with serve(app, valid=False, webapp=limits) as site, site.connect() as client:
        client.request("POST", content=[b"x" * 60_000] * 4)
        assert client.answer().status == 413


def test_broken_chunks_are_400() -> None:
    with serve(reads(lambda source: source.read(10))) as site, site.connect() as client:
        client.send(b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n")
        assert client.answer().status == 400


def test_a_client_that_leaves_while_sending_is_no_error() -> None:
    raised: list[BaseException] = []

    def app(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        try:
            environ["wsgi.input"].read(10)
        except OSError as error:
            raised.append(error)
            raise
        return plain(environ, start_response)

    with serve(app) as site:
        with site.connect() as client:
            client.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nabc")
        until(lambda: raised)
        assert isinstance(raised[0], (ClientGone, OSError))
        assert not site.log.of("error")
