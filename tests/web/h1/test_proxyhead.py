"""The heads that a forward proxy gets, and those that it passes on."""

from __future__ import annotations

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hemi.web.h1.framing import Refusal
from hemi.web.h1.proxyhead import build_head, credentials_of, parse_proxy_head


def block(line: str, *fields: str, host: str = "a.example") -> bytes:
    lines = [line, *([f"Host: {host}"] if host else []), *fields, "", ""]
    return "\r\n".join(lines).encode("latin-1")


@pytest.mark.parametrize(
    ("line", "host", "port", "target"),
    [
        ("CONNECT a.example:443 HTTP/1.1", "a.example", 443, b""),
        ("CONNECT [2001:DB8::1]:443 HTTP/1.1", "2001:db8::1", 443, b""),
        ("GET http://A.example/x?y HTTP/1.1", "a.example", 80, b"/x?y"),
        ("GET http://a.example:8080 HTTP/1.1", "a.example", 8080, b"/"),
        ("GET http://a.example?x=1 HTTP/1.0", "a.example", 80, b"/?x=1"),
        ("OPTIONS http://a.example HTTP/1.1", "a.example", 80, b"*"),
        ("GET http://a.example/../%2e%2e/x HTTP/1.1", "a.example", 80, b"/../%2e%2e/x"),
    ],
)
def test_targets(line: str, host: str, port: int, target: bytes) -> None:
    head = parse_proxy_head(block(line))
    assert (head.host, head.port, head.target) == (host, port, target)


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (block("GET / HTTP/1.1"), 400),
        (block("OPTIONS * HTTP/1.1"), 400),
        (block("GET https://a.example/ HTTP/1.1"), 400),
        (block("GET ftp://a.example/ HTTP/1.1"), 400),
        (block("GET http://u:p@a.example/ HTTP/1.1"), 400),
        (block("GET http://127.1/ HTTP/1.1"), 400),
        (block("GET http://a.example:0/ HTTP/1.1"), 400),
        (block("GET http:///x HTTP/1.1"), 400),
        (block("GET http://a.example/#x HTTP/1.1"), 400),
        (block("CONNECT a.example HTTP/1.1"), 400),
        (block("CONNECT http://a.example/ HTTP/1.1"), 400),
        (block("CONNECT a.example:443 HTTP/1.1", "Content-Length: 5"), 400),
        (block("CONNECT a.example:443 HTTP/1.1", "Transfer-Encoding: chunked"), 400),
        (block("GET http://a.example/ HTTP/1.1", host=""), 400),
        (block("GET http://a.example/ HTTP/1.1", "Host: a.example"), 400),
        (block("GET http://a.example/ HTTP/1.1", host="a b"), 400),
        (block("GET  http://a.example/ HTTP/1.1"), 400),
        (block("GET http://a.example/ HTTP/1.1", "Content-Length: 1", "Content-Length: 2"), 400),
        (block("POST http://a.example/ HTTP/1.1", "Content-Length: 1", "Transfer-Encoding: chunked"), 400),
        (block("POST http://a.example/ HTTP/1.1", "Content-Length: +1"), 400),
        (block("POST http://a.example/ HTTP/1.1", "Transfer-Encoding: gzip"), 400),
        (block("POST http://a.example/ HTTP/1.1", "Transfer-Encoding: gzip, chunked"), 501),
        (block("POST http://a.example/ HTTP/1.0", "Transfer-Encoding: chunked"), 400),
        (block("GET http://a.example/ HTTP/1.1", "X: a\nY: b"), 400),
        (block("GET http://a.example/ HTTP/1.1", "X : a"), 400),
        (block("GET http://a.example/ HTTP/1.1", "X: a\0b"), 400),
        (block("GET http://a.example/ HTTP/2.0"), 505),
        (block("GET http://a.example/" + "x" * 9000 + " HTTP/1.1"), 414),
        (block("GET http://a.example/ HTTP/1.1", *(f"X{n}: y" for n in range(120))), 431),
        (block("OPTIONS http://a.example/ HTTP/1.1", "Max-Forwards: 0"), 501),
        (b"\x16\3\1\0\0\r\n\r\n", 400),
        (b"GET /\r\n\r\n", 400),
    ],
)
def test_what_is_refused(data: bytes, status: int) -> None:
    with pytest.raises(Refusal) as caught:
        parse_proxy_head(data)
    assert caught.value.status == status


@given(
    st.binary(max_size=200),
    st.sampled_from(["GET http://a.example/ HTTP/1.1\r\n", "CONNECT a.example:1 HTTP/1.1\r\n", ""]),
)
def test_any_bytes(data: bytes, line: str) -> None:
    """Whatever comes is refused, or rebuilt into a head that no one can read in two ways."""
    try:
        head = parse_proxy_head(line.encode() + data.replace(b"\r\n\r\n", b"") + b"\r\n\r\n")
    except Refusal:
        return
    built = build_head(head, b"gorox")
    assert built.endswith(b"\r\n\r\n") and built.count(b"\r\n\r\n") == 1
    assert all(
        b"\r" not in one and b"\n" not in one and b"\0" not in one for one in built[:-4].split(b"\r\n")
    )


def test_what_is_passed_on() -> None:
    head = parse_proxy_head(
        block(
            "POST http://b.example:81/x HTTP/1.1", "Connection: keep-alive, X-Hop", "X-Hop: 1", "Keep-Alive: 5",
            "Proxy-Connection: keep-alive", "Proxy-Authorization: Basic eDp5", "TE: trailers", "Upgrade: h2c",
            "Content-Length: 3", "Accept: */*", "Max-Forwards: 7", "Via: 1.0 before", "Cookie: a=b",
        )
    )  # fmt: skip
    assert build_head(head, b"gorox") == (
        b"POST /x HTTP/1.1\r\nhost: b.example:81\r\naccept: */*\r\nvia: 1.0 before\r\ncookie: a=b\r\n"
        b"max-forwards: 7\r\ncontent-length: 3\r\nvia: 1.1 gorox\r\nconnection: close\r\n\r\n"
    )
    head = parse_proxy_head(block("OPTIONS http://b.example/ HTTP/1.1", "Max-Forwards: 7"))
    assert b"max-forwards: 6\r\n" in build_head(head, b"")
    head = parse_proxy_head(
        block("POST http://b.example/ HTTP/1.1", "Transfer-Encoding: chunked", "Expect: 100-continue")
    )
    assert b"\r\nexpect: 100-continue\r\ntransfer-encoding: chunked\r\n" in build_head(head, b"")
    head = parse_proxy_head(block("POST http://b.example/ HTTP/1.0", "Expect: 100-continue", host=""))
    assert build_head(head, b"x") == (
        b"POST / HTTP/1.1\r\nhost: b.example\r\ncontent-length: 0\r\nvia: 1.0 x\r\nconnection: close\r\n\r\n"
    )


def test_credentials() -> None:
    def given_as(value: bytes) -> object:
        return credentials_of({b"proxy-authorization": value})

    assert given_as(b"Basic " + base64.b64encode(b"anna:a:b")) == ("anna", b"a:b")
    assert given_as(b"basic  " + base64.b64encode("änna:".encode())) == ("änna", b"")
    for wrong in (
        b"",
        b"Basic",
        b"Basic !!",
        b"Basic eA==",
        b"Bearer eDp5",
        b"Basic " + base64.b64encode(b"\xff:x"),
    ):
        assert given_as(wrong) is None
    assert credentials_of({}) is None
