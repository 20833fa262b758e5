"""RFC 9113, sections 8 and 10.5.1: requests that are well formed, malformed, refused, too large.

The sections are those of the RFC, the cases those that h2spec has.
"""

from __future__ import annotations

import pytest

from hemi.web.request import Request
from hemi.web.response import Response
from tests.conformance.h2kit import broken, opened, reset, works
from tests.h2raw import (
    CONTINUATION,
    DATA,
    END_HEADERS,
    END_STREAM,
    ENHANCE_YOUR_CALM,
    GET,
    HEADERS,
    POST,
    PROTOCOL_ERROR,
    RawClient,
    frame,
)
from tests.webkit import serve

# 8 Messages


def test_8_1_trailers(client: RawClient) -> None:
    opened(client)
    client.send(frame(DATA, 0, 1, b"abc"), client.headers(1, [("x-sum", "1")]))
    assert client.response(1)[1] == b"hello abc"


def test_8_1_headers_in_the_middle(client: RawClient) -> None:
    opened(client)
    client.send(client.headers(1, [("x-sum", "1")], END_HEADERS))
    reset(client, 1, PROTOCOL_ERROR)


def test_8_1_pseudo_fields_among_trailers(client: RawClient) -> None:
    opened(client)
    client.send(client.headers(1, [(":method", "GET")]))
    reset(client, 1, PROTOCOL_ERROR)


AUTHORITY = (":authority", "a.example")

MALFORMED: dict[str, list[tuple[str, str]]] = {
    "upper-case": [*GET, ("X-TEST", "ok")],
    "space-in-name": [*GET, ("x test", "ok")],
    "colon-in-name": [*GET, ("x:test", "ok")],
    "empty-name": [*GET, ("", "ok")],
    "control-in-name": [*GET, ("x\0test", "ok")],
    "high-byte-in-name": [*GET, ("x\u00fc", "ok")],
    "nul-in-value": [*GET, ("x", "a\0b")],
    "cr-in-value": [*GET, ("x", "a\rb")],
    "lf-in-value": [*GET, ("x", "a\nb")],
    "crlf-in-value": [*GET, ("x", "a\r\nhost: b")],
    "space-before-value": [*GET, ("x", " a")],
    "tab-behind-value": [*GET, ("x", "a\t")],
    "unknown-pseudo": [*GET, (":test", "ok")],
    "unknown-pseudo-first": [(":test", "ok"), *GET],
    "response-pseudo": [(":status", "200"), *GET],
    "late-pseudo": [*GET[:2], GET[3], ("x", "ok"), GET[2]],
    "connection": [*GET, ("connection", "keep-alive")],
    "proxy-connection": [*GET, ("proxy-connection", "keep-alive")],
    "keep-alive": [*GET, ("keep-alive", "1")],
    "transfer-encoding": [*GET, ("transfer-encoding", "chunked")],
    "upgrade": [*GET, ("upgrade", "h2c")],
    "te": [*GET, ("te", "trailers, deflate")],
    "no-method": GET[1:],
    "no-scheme": [GET[0], *GET[2:]],
    "no-path": [*GET[:2], AUTHORITY],
    "empty-path": [*GET[:2], (":path", ""), AUTHORITY],
    "empty-method": [(":method", ""), *GET[1:]],
    "method-with-space": [(":method", "GET / HTTP/1.1\r\nx:"), *GET[1:]],
    "two-methods": [GET[0], *GET],
    "two-schemes": [*GET[:2], GET[1], *GET[2:]],
    "two-paths": [*GET[:3], GET[2], GET[3]],
    "two-authorities": [*GET, AUTHORITY],
    "crlf-in-path": [*GET[:2], (":path", "/\r\nx: y"), AUTHORITY],
    "crlf-in-authority": [*GET[:3], (":authority", "a\r\nx: y")],
    "another-host": [*GET, ("host", "b.example")],
    "two-hosts": [*GET[:3], ("host", "a.example"), ("host", "a.example")],
    "length-without-content": [*GET, ("content-length", "1")],
    "length-that-is-no-number": [*GET, ("content-length", "+1")],
    "two-lengths-in-one": [*GET, ("content-length", "0, 0")],
    "connect-with-path": [(":method", "CONNECT"), *GET[1:]],
    "connect-without-authority": [(":method", "CONNECT")],
    "protocol-of-get": [*GET, (":protocol", "websocket")],
}


@pytest.mark.parametrize("fields", MALFORMED.values(), ids=MALFORMED)
def test_8_1_1_malformed(client: RawClient, fields: list[tuple[str, str]]) -> None:
    raw = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in fields]
    client.send(client.headers(1, raw))  # type: ignore[arg-type]
    reset(client, 1, PROTOCOL_ERROR)
    works(client, 3)


@pytest.mark.parametrize(
    ("content", "promised"), [([b"test"], 1), ([b"test"], 5), ([b"te", b"st"], 3), ([b""], 1)]
)
def test_8_1_1_content_of_another_length(client: RawClient, content: list[bytes], promised: int) -> None:
    client.send(client.headers(1, [*POST, ("content-length", str(promised))], END_HEADERS))
    for number, piece in enumerate(content, 1):
        client.send(frame(DATA, END_STREAM if number == len(content) else 0, 1, piece))
    reset(client, 1, PROTOCOL_ERROR)


def test_8_1_1_content_of_another_length_with_trailers(client: RawClient) -> None:
    client.send(client.headers(1, [*POST, ("content-length", "5")], END_HEADERS), frame(DATA, 0, 1, b"test"))
    client.send(client.headers(1, [("x", "y")]))
    reset(client, 1, PROTOCOL_ERROR)


REFUSED = {
    "no-authority": (GET[:3], "400"),
    "bad-authority": ([*GET[:3], (":authority", "user@a.example")], "400"),
    "bad-path": ([*GET[:2], (":path", "/a b"), AUTHORITY], "400"),
    "path-without-slash": ([*GET[:2], (":path", "index"), AUTHORITY], "400"),
    "whole-uri": ([*GET[:2], (":path", "http://a.example/"), AUTHORITY], "400"),
    "climbing": ([*GET[:2], (":path", "/../x"), AUTHORITY], "400"),
    "asterisk": ([*GET[:2], (":path", "*"), AUTHORITY], "400"),
    "scheme": ([GET[0], (":scheme", "ftp"), *GET[2:]], "400"),
    "two-types": ([*GET, ("content-type", "a/b"), ("content-type", "a/c")], "400"),
    "expectation": ([*GET, ("expect", "wonders")], "417"),
    "long-path": ([*GET[:2], (":path", "/" + "x" * 9000), AUTHORITY], "414"),
    "connect": ([(":method", "CONNECT"), (":authority", "a.example:443")], "501"),
    "no-such-protocol": (
        [(":method", "CONNECT"), (":protocol", "foo"), *GET[1:]],
        "501",
    ),
    "many-fields": ([*GET, *[(f"x-{number}", "y") for number in range(101)]], "431"),
    "large-fields": ([*GET, *[(f"x-{number}", "y" * 1000) for number in range(40)]], "431"),
}


@pytest.mark.parametrize(("fields", "status"), REFUSED.values(), ids=REFUSED)
def test_8_3_what_is_answered_by_a_refusal(
    client: RawClient, fields: list[tuple[str, str]], status: str
) -> None:
    block = client.block(fields)
    pieces = [block[at : at + 16384] for at in range(0, len(block), 16384)]
    flags = END_HEADERS if len(pieces) == 1 else 0
    client.send(frame(HEADERS, END_STREAM | flags, 1, pieces[0]))
    for number, piece in enumerate(pieces[1:], 2):
        client.send(frame(CONTINUATION, END_HEADERS if number == len(pieces) else 0, 1, piece))
    assert client.response(1)[0][":status"] == status
    works(client, 3)


def test_8_2_3_cookies_are_joined() -> None:
    seen: list[Request] = []

    def note(req: Request, resp: Response) -> bool:
        seen.append(req)
        resp.send(req.cookie("b") or "")
        return True

    with serve(note, address="127.0.0.2:0") as site, RawClient(site) as client:
        client.send(
            client.headers(1, [*GET, ("cookie", "a=1"), ("x", "y"), ("cookie", "b=2"), ("cookie", "c=3")])
        )
        assert client.response(1)[1] == b"2"
        assert seen[0].index[b"cookie"] == b"a=1; b=2; c=3"
        assert [name for name, _ in seen[0].fields] == [b"host", b"x", b"cookie"]


def test_8_3_1_host_alone_and_equal_to_the_authority(client: RawClient) -> None:
    works(client, 1, [*GET[:3], ("host", "a.example")])
    works(client, 3, [*GET, ("host", "A.EXAMPLE")])


def test_10_5_1_heads_beyond_all_limits_end_the_connection(client: RawClient) -> None:
    client.send(client.headers(1, GET, END_STREAM))
    for _ in range(20):
        client.send(frame(CONTINUATION, 0, 1, b"\x00\x01x\x7f\x80\x7d" + b"y" * 16128))
    broken(client, ENHANCE_YOUR_CALM)
