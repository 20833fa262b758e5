"""Heads between a proxy and nodes that speak HTTP/2."""

from __future__ import annotations

import pytest
from hpack import NeverIndexedHeaderTuple

from hemi.web.h1.answer import CHUNKED, BadAnswer
from hemi.web.h2.clienthead import check_fields, request_fields, response_head, switching_head

HEAD = (
    b"POST /a?b HTTP/1.1\r\nhost: h:1\r\nx-a: 1\r\nauthorization: Basic eA==\r\nte: trailers\r\nconnection: te\r\n"
    b"priority: u=1, i\r\ntransfer-encoding: chunked\r\n\r\n"
)


def test_a_request() -> None:
    fields, protocol, accept = request_fields(HEAD, b"https")
    assert fields == [
        (b":method", b"POST"),
        (b":scheme", b"https"),
        (b":path", b"/a?b"),
        (b":authority", b"h:1"),
        (b"x-a", b"1"),
        (b"authorization", b"Basic eA=="),
        (b"te", b"trailers"),
        (b"priority", b"u=1, i"),
    ]
    assert (protocol, accept) == (b"", b"")
    secret = [field for field in fields if isinstance(field, NeverIndexedHeaderTuple)]
    assert secret == [(b"authorization", b"Basic eA==")]


def test_a_request_without_fields() -> None:
    assert request_fields(b"OPTIONS * HTTP/1.1\r\n\r\n", b"http").fields == [
        (b":method", b"OPTIONS"),
        (b":scheme", b"http"),
        (b":path", b"*"),
    ]


def test_an_upgrade_becomes_an_extended_connect() -> None:
    head = (
        b"GET /chat HTTP/1.1\r\nhost: h\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
        b"sec-websocket-protocol: a\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n"
    )
    request = request_fields(head, b"http")
    assert request.fields == [
        (b":method", b"CONNECT"),
        (b":protocol", b"websocket"),
        (b":scheme", b"http"),
        (b":path", b"/chat"),
        (b":authority", b"h"),
        (b"sec-websocket-protocol", b"a"),
    ]
    assert request.accept == b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo="  # RFC 6455 §1.3
    answer = response_head([(b":status", b"200"), (b"sec-websocket-protocol", b"a")], False, 1000)
    switched = switching_head(answer, request)
    assert switched.status == 101
    assert switched.get(b"upgrade") == b"websocket"
    assert switched.get(b"sec-websocket-accept") == request.accept
    assert switched.get(b"sec-websocket-protocol") == b"a"


def test_a_response() -> None:
    block = [(b":status", b"200"), (b"content-length", b"5"), (b"x", b" a ")]
    head = response_head(block, False, 1000)
    assert (head.status, head.size) == (200, 5)
    assert head.fields == ((b"content-length", b"5"), (b"x", b"a"))
    assert response_head([(b":status", b"200")], False, 1000).size == CHUNKED
    assert response_head([(b":status", b"200")], True, 1000).size == 0
    twice = [(b":status", b"200"), (b"content-length", b"5"), (b"content-length", b"5")]
    assert response_head(twice, False, 1000).size == 5


@pytest.mark.parametrize(
    ("block", "reason"),
    [
        ([], "no status"),
        ([(b"x", b"y")], "no status"),
        ([(b":status", b"abc")], "status b'abc'"),
        ([(b":status", b"099")], "status b'099'"),
        ([(b":status", b"600")], "status b'600'"),
        ([(b":status", b"+20")], "status"),
        ([(b":status", b"101")], "101"),
        ([(b":status", b"200"), (b":status", b"200")], "name"),
        ([(b":status", b"200"), (b":path", b"/")], "name"),
        ([(b":status", b"200"), (b"X-Upper", b"y")], "name"),
        ([(b":status", b"200"), (b"a b", b"y")], "name"),
        ([(b":status", b"200"), (b"", b"y")], "name"),
        ([(b":status", b"200"), (b"a\r\nb", b"y")], "name"),
        ([(b":status", b"200"), (b"a", b"y\r\nset-cookie: z")], "control"),
        ([(b":status", b"200"), (b"a", b"y\0")], "control"),
        ([(b":status", b"200"), (b"connection", b"close")], "does not have"),
        ([(b":status", b"200"), (b"transfer-encoding", b"chunked")], "does not have"),
        ([(b":status", b"200"), (b"content-length", b"5"), (b"content-length", b"6")], "Content-Length"),
        ([(b":status", b"200"), (b"content-length", b"-5")], "Content-Length"),
        ([(b":status", b"200"), (b"a", b"y" * 1000)], "larger than 1000 bytes"),
        ([(b":status", b"200"), *[(b"a", b"")] * 501], "more than 500 fields"),
    ],
)
def test_malformed_responses(block: list[tuple[bytes, bytes]], reason: str) -> None:
    with pytest.raises(BadAnswer, match=reason):
        response_head(block, False, 1000)


def test_trailers_have_no_pseudo_fields() -> None:
    check_fields([(b"grpc-status", b"0")], 1000)
    with pytest.raises(BadAnswer):
        check_fields([(b":status", b"200")], 1000)
