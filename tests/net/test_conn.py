"""Connections: what is known of them, and what their first bytes tell."""

from __future__ import annotations

import ssl
from types import SimpleNamespace
from typing import Any

import pytest

from hemi.net.conn import TCPXConn
from hemi.proxy_protocol import Header, build_v1, build_v2, parse
from hemi.sockets import Peer


class Scripted:
    """A channel that gives the pieces, then the end."""

    tls = None

    def __init__(self, *pieces: bytes) -> None:
        self.pieces = list(pieces)
        self.closed = 0
        self.sock = SimpleNamespace(getsockname=lambda: ("::ffff:127.0.0.1", 5432, 0, 0))

    def recv(self, size: int) -> bytes:
        return self.pieces.pop(0) if self.pieces else b""

    def close(self) -> None:
        self.closed += 1


def conn_of(*pieces: bytes, peer: Peer = Peer("192.0.2.1", 1234)) -> TCPXConn:  # noqa: B008
    owner = SimpleNamespace(inspect_timeout=5.0, name="db")
    gate = SimpleNamespace(
        owner=owner,
        listener=SimpleNamespace(bound="/run/x.sock" if peer[1] == 0 else "[::]:5432"),
        members=set(),
    )
    channel: Any = Scripted(*pieces)
    return TCPXConn(gate, channel, peer)  # type: ignore[arg-type]


def hello(name: str = "db.example", *protocols: str) -> bytes:
    """A ClientHello as OpenSSL makes it."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    if protocols:
        context.set_alpn_protocols(protocols)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    out = ssl.MemoryBIO()
    session = context.wrap_bio(ssl.MemoryBIO(), out, server_hostname=name)
    with pytest.raises(ssl.SSLWantReadError):
        session.do_handshake()
    return out.read()


def test_addresses() -> None:
    conn = conn_of()
    assert conn.dst == ("127.0.0.1", 5432) and not conn.is_uds
    assert conn.line() == "TCP 127.0.0.1:5432"
    conn.node = "10.0.0.7:5432"
    assert conn.line() == "TCP 127.0.0.1:5432 > 10.0.0.7:5432"


def test_unix_domain() -> None:
    conn = conn_of(peer=Peer("unix:", 0))
    conn.channel.sock = SimpleNamespace(getsockname=lambda: "/run/x.sock")  # type: ignore[assignment]
    assert conn.is_uds and conn.dst == ("/run/x.sock", 0) and conn.line() == "UDS /run/x.sock"


def header(data: bytes) -> Header:
    found = parse(data)
    assert isinstance(found, Header)
    return found


def test_what_a_proxy_says() -> None:
    conn = conn_of()
    conn.believe(header(b"PROXY UNKNOWN\r\n"))
    assert (conn.src_host, conn.src_port) == ("192.0.2.1", 1234)
    conn.believe(header(build_v1(("198.51.100.1", 99), ("203.0.113.1", 443))))
    assert (conn.src_host, conn.src_port, conn.dst) == ("198.51.100.1", 99, ("203.0.113.1", 443))
    conn.believe(header(build_v2(("/a", 0), ("/b", 0))))
    assert (conn.src_host, conn.src_port, conn.dst) == ("unix:", 0, ("/b", 0))


@pytest.mark.parametrize("size", [1, 7, 16384])
def test_a_hello_in_pieces(size: int) -> None:
    data = hello("DB.example", "h2", "http/1.1") + b"more"
    whole = data[:-4]
    pieces = [whole[at : at + size] for at in range(0, len(whole), size)]
    conn = conn_of(*pieces)
    assert conn.inspect() is conn
    assert conn.is_tls and conn.server_name == "db.example" and conn.next_proto == "h2,http/1.1"
    assert conn.taken() == whole and conn.taken() == b""
    assert conn.line() == "TLS db.example [::]:5432"


@pytest.mark.parametrize(
    "pieces",
    [
        (),
        (b"GET / HTTP/1.1\r\n",),
        (b"\x16\x02\x00\x00\x01\x00",),
        (b"\x16", b"\x03\x01\xff\xff\x01"),
        (b"\x16\x03",),
    ],
)
def test_what_is_no_tls(pieces: tuple[bytes, ...]) -> None:
    conn = conn_of(*pieces)
    assert not conn.inspect().is_tls
    assert (conn.server_name, conn.next_proto) == ("", "")
    assert conn.taken() == b"".join(pieces)


def test_the_end_is_told_once() -> None:
    conn = conn_of()
    told: list[int] = []
    conn.at_end(lambda: told.append(1))
    conn.at_end(lambda: told.append(2))
    conn.end()
    conn.end()
    assert told == [1, 2] and conn.channel.closed == 2  # type: ignore[attr-defined]
    conn.refuse(403, "no")
    assert "status=403" in repr(conn)
