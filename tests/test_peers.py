"""Peers: addresses as the kernel gives them, and PROXY headers at the beginning of connections, read to the byte."""

from __future__ import annotations

import socket

import gevent
import pytest

from hemi.peers import client_of, peer_named, peer_of, plain_host, read_header
from hemi.proxy_protocol import Header, ProxyProtocolError, build_v1, build_v2, parse
from hemi.sockets import Peer
from tests.net.test_relay import channel_of, tcp_pair

SRC, DST = ("198.51.100.1", 99), ("203.0.113.1", 443)


def test_addresses() -> None:
    assert plain_host("::ffff:1.2.3.4") == "1.2.3.4" and plain_host("::ffff:1:2") == "::ffff:1:2"
    assert peer_of("") == ("unix:", 0)
    assert peer_of(("::ffff:1.2.3.4", 5, 0, 0)) == ("1.2.3.4", 5)
    assert peer_of(("::1", 5, 0, 0)) == ("::1", 5)


@pytest.mark.parametrize(
    ("data", "client"),
    [
        (build_v1(SRC, DST), SRC),
        (build_v2(("::ffff:192.0.2.7", 5), ("::1", 6)), ("192.0.2.7", 5)),
        (b"PROXY UNKNOWN\r\n", ("192.0.2.1", 1)),
        (build_v2(None, None), ("192.0.2.1", 1)),
        (
            b"\r\n\r\n\0\r\nQUIT\n\x21\x31\0\xd8" + b"/a".ljust(108, b"\0") + b"/b".ljust(108, b"\0"),
            ("unix:", 0),
        ),
    ],
)
def test_clients(data: bytes, client: tuple[str, int]) -> None:
    header = parse(data)
    assert isinstance(header, Header)
    assert peer_named(header, Peer("192.0.2.1", 1)) == client


@pytest.mark.parametrize("header", [build_v1(SRC, DST), build_v2(SRC, DST), b"PROXY UNKNOWN\r\n"])
@pytest.mark.parametrize("bytewise", [False, True])
def test_reading(header: bytes, bytewise: bool) -> None:
    one, other = tcp_pair()
    channel = channel_of(one)
    try:
        reading = gevent.spawn(read_header, channel)
        for at in range(len(header)) if bytewise else ():
            other.sendall(header[at : at + 1])
            gevent.sleep(0)
        other.sendall(b"rest" if bytewise else header + b"rest")
        found = reading.get(timeout=10)
        assert found.size == len(header)
        assert channel.recv(100) == b"rest"
    finally:
        channel.close()
        other.close()


@pytest.mark.parametrize(("data", "error"), [(b"GET / HTTP/1.1", ProxyProtocolError), (b"PROXY ", EOFError)])
def test_what_is_none(data: bytes, error: type[Exception]) -> None:
    one, other = tcp_pair()
    channel = channel_of(one)
    try:
        other.sendall(data)
        other.shutdown(socket.SHUT_WR)
        with pytest.raises(error):
            read_header(channel)
    finally:
        channel.close()
        other.close()


@pytest.mark.parametrize(
    ("host", "client"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("unix:", "unix:"),
        ("2001:db8:1:2:3::4", "2001:db8:1:2::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
    ],
)
def test_who_a_client_is(host: str, client: str) -> None:
    assert client_of(host) == client
