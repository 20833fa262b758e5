"""The decisions that the parser leaves to us, as pure functions."""

from __future__ import annotations

import time

import pytest

from hemi.web.h1.framing import (
    Refusal,
    check_request_line,
    content_size,
    head_size,
    is_unknown_method,
    merge_fields,
    refusal_of_start,
    split_options,
)


def test_merging() -> None:
    fields = [(b"a", b"1"), (b"b", b"2"), (b"a", b"3"), (b"cookie", b"x=1"), (b"cookie", b"y=2")]
    assert merge_fields(fields) == {b"a": b"1, 3", b"b": b"2", b"cookie": b"x=1; y=2"}


@pytest.mark.parametrize(
    "name", [b"host", b"content-length", b"content-type", b"authorization", b"user-agent"]
)
def test_fields_that_stand_alone(name: bytes) -> None:
    with pytest.raises(Refusal, match="repeated") as raised:
        merge_fields([(name, b"a"), (name, b"a")])
    assert raised.value.status == 400


@pytest.mark.parametrize(
    ("index", "size"),
    [
        ({}, 0),
        ({b"content-length": b"0"}, 0),
        ({b"content-length": b"0012"}, 12),
        ({b"transfer-encoding": b"chunked"}, -1),
        ({b"transfer-encoding": b"CHUNKED"}, -1),
    ],
)
def test_sizes(index: dict[bytes, bytes], size: int) -> None:
    assert content_size("POST", 11, index) == size


@pytest.mark.parametrize(
    ("version", "index", "status"),
    [
        (10, {b"transfer-encoding": b"chunked"}, 400),
        (11, {b"transfer-encoding": b"chunked", b"content-length": b"0"}, 400),
        (11, {b"transfer-encoding": b"gzip"}, 400),
        (11, {b"transfer-encoding": b""}, 400),
        (11, {b"transfer-encoding": b"chunked, gzip"}, 400),
        (11, {b"transfer-encoding": b"gzip, chunked"}, 501),
        (11, {b"transfer-encoding": b"xchunked"}, 501),
        (11, {b"content-length": b""}, 400),
        (11, {b"content-length": b"+1"}, 400),
        (11, {b"content-length": b"1, 1"}, 400),
        (11, {b"content-length": b"1_0"}, 400),
        (11, {b"content-length": b"\xb2"}, 400),
    ],
)
def test_refused_sizes(version: int, index: dict[bytes, bytes], status: int) -> None:
    with pytest.raises(Refusal) as raised:
        content_size("POST", version, index)
    assert raised.value.status == status


def test_a_trace_has_no_content() -> None:
    assert content_size("TRACE", 11, {b"content-length": b"0"}) == 0
    for index in ({b"content-length": b"1"}, {b"transfer-encoding": b"chunked"}):
        with pytest.raises(Refusal):
            content_size("TRACE", 11, index)


GOOD = b"GET /a HTTP/1.1\r\nhost: a\r\nx: y  z\r\n\r\n"


@pytest.mark.parametrize(
    "window",
    [
        GOOD,
        b"\r\n" + GOOD,
        b"content of the one before" + GOOD,
        b"POST /b HTTP/1.1\r\nhost: a\r\n\r\n" + GOOD,
        b"GET  /b HTTP/1.1\r\nhost: a\r\n\r\n" + GOOD,
        b"GET /a HTTP/1.1\r\nx: GET  /b HTTP/1.1\r\n\r\n",
    ],
)
def test_good_lines(window: bytes) -> None:
    check_request_line(b"GET", b"/a", window)


@pytest.mark.parametrize(
    "window",
    [
        b"GET  /a HTTP/1.1\r\n",
        b"GET /a  HTTP/1.1\r\n",
        b"GET     /a     HTTP/1.1\r\n",
        b"GET /a \tHTTP/1.1\r\n",
        GOOD + b"GET  /a HTTP/1.1\r\n",
        GOOD + b"contentGET  /a HTTP/1.1\r\n",
        b"GET  /a HTTP/1.1\r\nx: GET /a HTTP/1.1\r\n",
        b"nothing of it",
        b"",
    ],
)
def test_bad_lines(window: bytes) -> None:
    with pytest.raises(Refusal, match="one space"):
        check_request_line(b"GET", b"/a", window)


@pytest.mark.parametrize(
    "piece", [b"a", b" ", b"a ", b"GET  /a", b"GET /a ", b"GET  /a HTTP", b"GET ", b"  /a  ", b"a-"]
)
def test_lines_take_linear_time(piece: bytes) -> None:
    """No text makes the search for lines quadratic: 1 MiB, where quadratic would be hours."""
    window = (piece * (1 << 20))[: 1 << 20]
    before = time.process_time()
    with pytest.raises(Refusal):
        check_request_line(b"GET", b"/b", window)
    assert time.process_time() - before < 5


def test_head_sizes() -> None:
    target, fields = b"/abc", [(b"host", b"a.example"), (b"x", b"")]
    plain = b"DELETE /abc HTTP/1.1\r\nhost: a.example\r\nx: \r\n\r\n"
    assert len(b"DELETE") + head_size(target, fields) == len(plain)


def test_methods_in_pieces() -> None:
    """None while the line could still become one with a good method that is not known."""
    for window in (b"F", b"FOO", b"\r\nFOO ", b"F" * 32):
        assert is_unknown_method(window, True) is None
        assert is_unknown_method(window, False) is False
    for window in (b"FOO /", b"\r\nFOO *", b"FOO http:"):
        assert is_unknown_method(window, True) is True
    for window in (b"FOO  /", b"F(", b"F" * 33, b"FOO bar", b"\0", b" FOO /"):
        assert is_unknown_method(window, True) is False
    assert is_unknown_method(b"content\r\n\r\nFOO /a HTTP/1.1\r\n", False) is True
    assert is_unknown_method(b"content\r\n\r\nGET /a HTTP/1.1\r\n", False) is False


class Few:
    max_head_size = 20
    max_target_size = 10


def test_starts_of_heads() -> None:
    def status(window: bytes, arrived: int, target: bytes = b"") -> int:
        refusal = refusal_of_start(target, window, arrived, Few)  # type: ignore[arg-type]
        return refusal.status if refusal is not None else 0

    assert status(b"GET /", 5) == status(b"\r\nGET / HTTP/1.1\r\nx", 20) == status(b"", 20) == 0
    assert status(b"GET /\r\n", 7) == 400
    assert status(b"GET / HTTP/1.1\r\nx: y", 21) == status(b"", 21) == 431
    assert status(b"GET /aaaaaaaaaaaaaaaa", 21) == status(b"", 15, b"/" * 11) == 414


def test_refusals_say_why() -> None:
    refusal = Refusal(431, "Too much.")
    assert (refusal.status, refusal.text, str(refusal)) == (431, "Too much.", "431 Too much.")


def test_options_of_connections() -> None:
    assert split_options(b"Close") == [b"close"]
    assert split_options(b"keep-alive ,\tCLOSE, ,x") == [b"keep-alive", b"close", b"", b"x"]
