"""SOCKS on the wire: whole, byte by byte, with a tail, and whatever comes to hypothesis's mind."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hemi.net import socks
from hemi.net.socks import Datagram, Login, Malformed, Method, Reply, Request

Parse = Callable[[bytes], Any]

SAMPLES: list[tuple[Parse, bytes, Any]] = [
    (socks.parse_greeting, b"\5\2\0\2", b"\0\2"),
    (socks.parse_greeting, b"\5\0", b""),
    (socks.parse_login, b"\1\4anna\5gorox", Login(b"anna", b"gorox")),
    (socks.parse_login, b"\1\0\0", Login(b"", b"")),
    (socks.parse_request, b"\5\1\0\1\xc0\0\2\1\x01\xbb", Request(5, 1, "192.0.2.1", 443)),
    (socks.parse_request, b"\5\1\0\3\x0bexample.com\0\x50", Request(5, 1, "example.com", 80)),
    (
        socks.parse_request,
        b"\5\3\0\4\x20\x01\x0d\xb8" + bytes(11) + b"\1\0\x35",
        Request(5, 3, "2001:db8::1", 53),
    ),
    (socks.parse_request, b"\5\1\0\3\0\0\x50", Request(5, 1, "", 80)),
    (socks.parse_request4, b"\4\1\0\x50\xc0\0\2\1me\0", Request(4, 1, "192.0.2.1", 80, b"me")),
    (
        socks.parse_request4,
        b"\4\1\0\x50\0\0\0\7me\0example.com\0",
        Request(4, 1, "example.com", 80, b"me"),
    ),
    (socks.parse_request4, b"\4\2\0\x50\0\0\0\0\0", Request(4, 2, "0.0.0.0", 80)),
]


@pytest.mark.parametrize(("parse", "data", "expected"), SAMPLES)
def test_messages(parse: Parse, data: bytes, expected: Any) -> None:
    assert parse(data) == (expected, len(data))
    assert [parse(data[:end]) for end in range(len(data))] == [None] * len(data)
    assert parse(data + b"tail") == (expected, len(data))


@pytest.mark.parametrize(
    ("parse", "data", "answer"),
    [
        (socks.parse_greeting, b"GET / HTTP/1.1\r\n", b""),
        (socks.parse_greeting, b"\6", b""),
        (socks.parse_login, b"\5", b"\1\1"),
        (socks.parse_request, b"\4\1", b"\5\1\0\1" + bytes(6)),
        (socks.parse_request, b"\5\1\1", b"\5\1\0\1" + bytes(6)),
        (socks.parse_request, b"\5\1\0\2\0", b"\5\x08\0\1" + bytes(6)),
        (socks.parse_request4, b"\5", b"\0\x5b" + bytes(6)),
        (socks.parse_request4, b"\4\1\0\x50\1\2\3\4" + b"x" * 256, b"\0\x5b" + bytes(6)),
        (socks.parse_request4, b"\4\1\0\x50\0\0\0\1\0" + b"x" * 300, b"\0\x5b" + bytes(6)),
    ],
)
def test_what_is_no_message(parse: Parse, data: bytes, answer: bytes) -> None:
    with pytest.raises(Malformed) as caught:
        parse(data)
    assert caught.value.answer == answer


PARSERS = [socks.parse_greeting, socks.parse_login, socks.parse_request, socks.parse_request4]


@given(st.sampled_from(PARSERS), st.one_of(st.binary(max_size=600), st.sampled_from([s[1] for s in SAMPLES])))
def test_any_bytes(parse: Parse, data: bytes) -> None:
    """A parser gives the same however its bytes come, takes no more than there is, and never waits for ever."""

    def outcome(part: bytes) -> Any:
        try:
            return parse(part)
        except Malformed:
            return "malformed"

    outcomes = [outcome(data[:end]) for end in range(len(data) + 1)]
    done = [one for one in outcomes if one is not None]
    assert all(one == done[0] for one in done)
    if done and done[0] != "malformed":
        assert 0 < done[0][1] <= len(data)
    if len(data) >= 530:
        assert done


@given(st.binary(max_size=255), st.binary(max_size=255))
def test_any_login(user: bytes, password: bytes) -> None:
    data = bytes((1, len(user))) + user + bytes((len(password),)) + password
    assert socks.parse_login(data) == (Login(user, password), len(data))


@given(st.ip_addresses(), st.integers(0, 65535))
def test_any_address(address: Any, port: int) -> None:
    """A reply has the form of a request."""
    data = socks.encode_reply(Reply.SUCCEEDED, str(address), port)
    assert data[1] == 0
    assert socks.parse_request(data) == (Request(5, 0, str(address), port), len(data))


def test_answers() -> None:
    assert socks.encode_choice(Method.PASSWORD) == b"\5\2"
    assert socks.encode_choice(Method.UNACCEPTABLE) == b"\5\xff"
    assert (socks.encode_login(True), socks.encode_login(False)) == (b"\1\0", b"\1\1")
    assert socks.encode_reply(Reply.REFUSED) == b"\5\5\0\1" + bytes(6)
    assert socks.encode_reply4(True, "192.0.2.1", 80) == b"\0\x5a\0\x50\xc0\0\2\1"
    assert socks.encode_reply4(True, "2001:db8::1", 80) == b"\0\x5a\0\x50" + bytes(4)
    assert socks.encode_reply(Reply.SUCCEEDED, "fe80::1%lo", 1)[3:6] == b"\4\xfe\x80"


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"\0\0\0\1\xc0\0\2\1\0\x35hello", Datagram(0, "192.0.2.1", 53, b"hello")),
        (b"\0\0\0\3\x0bexample.com\0\x35", Datagram(0, "example.com", 53, b"")),
        (b"\0\0\x81\4" + bytes(15) + b"\1\0\x35x", Datagram(129, "::1", 53, b"x")),
    ],
)
def test_datagrams(data: bytes, expected: Datagram) -> None:
    assert socks.parse_datagram(data) == expected
    end = len(data) - len(expected.content)
    for size in range(end):
        with pytest.raises(Malformed):
            socks.parse_datagram(data[:size])


@pytest.mark.parametrize(
    "data", [b"", b"\0\1\0\1" + bytes(6), b"\0\0\0\2" + bytes(20), b"\0\0\0\3\x09abc\0\0"]
)
def test_malformed_datagrams(data: bytes) -> None:
    with pytest.raises(Malformed):
        socks.parse_datagram(data)


@given(st.ip_addresses(), st.integers(0, 65535), st.binary(max_size=40))
def test_heads_of_datagrams(address: Any, port: int, content: bytes) -> None:
    data = socks.encode_datagram_head(str(address), port) + content
    assert socks.parse_datagram(data) == Datagram(0, str(address), port, content)


@given(st.binary(max_size=60))
def test_any_datagram(data: bytes) -> None:
    try:
        found = socks.parse_datagram(data)
    except Malformed:
        return
    assert data.endswith(found.content) and 0 <= found.port <= 65535
