"""PROXY headers for nodes."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from hemi.net.proxied import make_header
from hemi.proxy_protocol import Header, parse
from hemi.sockets import Peer
from tests.net.test_conn import conn_of


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
