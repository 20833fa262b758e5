"""PROXY headers at the beginning of connections: read to the byte, and made."""

from __future__ import annotations

import socket
from types import SimpleNamespace
from typing import Any

import gevent
import pytest

from hemi.net.proxied import make_header, read_header
from hemi.proxy_protocol import Header, ProxyProtocolError, build_v1, build_v2, parse
from hemi.sockets import Peer
from tests.net.test_conn import conn_of
from tests.net.test_relay import channel_of, tcp_pair

SRC, DST = ("198.51.100.1", 99), ("203.0.113.1", 443)


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


def parsed(data: bytes) -> Header:
    found = parse(data)
    assert isinstance(found, Header) and found.size == len(data)
    return found


def test_making() -> None:
    conn = conn_of()
    one = parsed(make_header(conn, "v1"))
    assert (one.src_host, one.src_port, one.dst_host, one.dst_port) == ("192.0.2.1", 1234, "127.0.0.1", 5432)
    conn.server_name = "db.example"
    info: Any = SimpleNamespace(
        version="TLSv1.3", cipher="X", alpn="h2", verified=True, client_subject="CN=anna"
    )
    conn.channel.tls = info
    two = parsed(make_header(conn, "v2"))
    assert (two.src_host, two.dst_port, two.authority, two.alpn) == ("192.0.2.1", 5432, "db.example", "h2")
    assert two.tls is not None and two.tls.is_verified and two.tls.common_name == "CN=anna"


def test_unix_domain_clients_are_unknown() -> None:
    conn = conn_of(peer=Peer("unix:", 0))
    assert make_header(conn, "v1") == b"PROXY UNKNOWN\r\n"
    assert not parsed(make_header(conn, "v2")).is_known
