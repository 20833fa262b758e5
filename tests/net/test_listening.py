"""Listeners: addresses, the PROXY protocol, TLS, logs, reloads, and what a configuration must be."""

from __future__ import annotations

import os
import socket
import ssl
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gevent
import pytest

from hemi.procmgr.single import addresses
from hemi.proxy_protocol import build_v1, build_v2
from hemi.source import Dirs
from tests.net.kit import Net, dial, echoed, problems, rest, until, untrusting
from tests.tlskit import Authority

Start = Callable[[str], Net]


def echo(more: str = "", address: str = '"127.0.0.1:0"') -> str:
    return f"servers: {{echo: {{type: echo_server, address: {address}{', ' + more if more else ''}}}}}\n"


def test_several_addresses(net: Start, tmp_path: Path) -> None:
    path, name = tmp_path / "s.sock", f"@gorox-l4-{os.getpid()}"
    one = net(echo("uds_mode: '0600'", f'["127.0.0.1:0", "[::1]:0", "{path}", "{name}"]'))
    for number in range(4):
        with one.connect("echo", number) as sock:
            assert echoed(sock) == b"hello"
    assert addresses(one.served.stage) == [f'server "echo" at {" and ".join(one.owner("echo").addresses)}']
    assert path.stat().st_mode & 0o777 == 0o600
    until(lambda: one.owner("echo").conns == 0)
    assert one.owner("echo").requests == 4
    one.served.close()
    assert not path.exists()


@pytest.mark.parametrize(
    ("more", "problem"),
    [
        ("tls: true", "tls needs certificates"),
        ("tls_client_auth: require", '"require" needs tls_client_ca'),
        ("max_concurrent_conns: 0", "max_concurrent_conns must be"),
        ("access_log: {target: x.log, format: '$path'}", "does not fit connections"),
        ("certificates: [{certificate: x.pem}]", "are for tls: true"),
    ],
)
def test_problems(dirs: Dirs, more: str, problem: str) -> None:
    assert problem in problems(echo(more), dirs)


def test_the_same_address_twice(dirs: Dirs) -> None:
    assert "must not name the same address twice" in problems(
        echo("", '["127.0.0.1:1", "127.0.0.1:1"]'), dirs
    )


@pytest.mark.parametrize(
    "header",
    [
        build_v1(("198.51.100.1", 99), ("203.0.113.1", 443)),
        build_v2(("198.51.100.1", 99), ("203.0.113.1", 443)),
    ],
)
def test_proxy_protocol(net: Start, header: bytes) -> None:
    one = net(
        echo("proxy_protocol: true, access_log: {target: a.log, format: $src_host $src_port $dst_port}")
    )
    with one.connect("echo") as sock:
        sock.sendall(header + b"hello")
        sock.shutdown(socket.SHUT_WR)
        assert rest(sock) == b"hello"
    one.served.close()
    assert (Path(one.dirs.top) / "a.log").read_text() == "198.51.100.1 99 443\n"


def test_proxies_must_send_a_header_and_others_need_not(net: Start) -> None:
    one = net(echo("proxy_protocol: true"))
    with one.connect("echo") as sock:
        sock.sendall(b"hello, nothing of this is a header")
        assert closed(sock)
    until(lambda: one.log.find("is refused"))
    one.served.close()
    other = net(echo("proxy_protocol: true, proxy_protocol_from: [192.0.2.0/24]"))
    with other.connect("echo") as sock:
        assert echoed(sock, b"PROXY TCP4") == b"PROXY TCP4"


def closed(sock: socket.socket) -> bool:
    try:
        return rest(sock) == b""
    except ConnectionResetError:
        return True


def test_a_slow_header(net: Start) -> None:
    one = net(echo("proxy_protocol: true, handshake_timeout: 100ms"))
    with one.connect("echo") as sock:
        sock.sendall(b"PROXY ")
        assert closed(sock)


def handshaking(sock: socket.socket, name: str) -> ssl.SSLSocket:
    """A TLS client whose handshake is still to be done."""
    return untrusting().wrap_socket(sock, server_hostname=name, do_handshake_on_connect=False)


def secure(authority: Authority, more: str = "") -> str:
    it = authority.issue("a.example")
    certificate = f"{{certificate: {it.certificate}, private_key: {it.private_key}, hostnames: [a.example]}}"
    return echo(f"tls: true, certificates: [{certificate}], handshake_timeout: 300ms{more}")


def test_tls(net: Start, tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    one = net(secure(authority, ", tls_strict_sni: true"))
    found = one.records("echo")
    context = ssl.create_default_context(cafile=authority.file)
    with one.connect("echo") as sock, context.wrap_socket(sock, server_hostname="a.example") as client:
        assert echoed(client, bytes(100_000)) == bytes(100_000)  # type: ignore[arg-type]
    until(lambda: found)
    assert found[0][2].startswith("TLS a.example ")
    with handshaking(one.connect("echo"), "b.example") as client, pytest.raises(ssl.SSLError):
        client.do_handshake()
    until(lambda: one.log.find('there is no site "b.example"'))


def test_handshakes_that_fail(net: Start, tmp_path: Path) -> None:
    one = net(secure(Authority(tmp_path)))
    with one.connect("echo") as slow, one.connect("echo") as plain:
        plain.sendall(b"this is no TLS")
        assert closed(plain) and closed(slow)
    found = one.records("echo")
    one.connect("echo").close()  # a probe: nothing to talk about
    until(lambda: found)
    assert len(one.log.find("the TLS handshake failed")) == 2


def test_client_certificates(net: Start, tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    one = net(secure(authority, f", tls_client_auth: require, tls_client_ca: {authority.file}"))
    context = untrusting()
    mine = authority.issue("anna")
    context.load_cert_chain(mine.certificate, mine.private_key)
    with one.connect("echo") as sock, context.wrap_socket(sock, server_hostname="a.example") as client:
        assert echoed(client) == b"hello"  # type: ignore[arg-type]
    with handshaking(one.connect("echo"), "a.example") as client, pytest.raises(OSError):
        client.do_handshake()
        client.recv(1)  # in TLS 1.3 the client learns of it afterwards


def test_reload_keeps_connections(net: Start) -> None:
    one = net(echo())
    address = one.address("echo")
    with dial(address) as old:
        assert echoed(old) == b"hello"
        before = one.owner("echo")
        one.reload(echo("idle_timeout: 30s"))
        assert one.address("echo") == address and one.owner("echo") is not before
        with dial(address) as new:
            assert echoed(new) == b"hello" and one.owner("echo").requests == 1
        assert echoed(old, b"still here") == b"still here"


def test_who_has_just_come_at_the_end(net: Start) -> None:
    """The connection is accepted, and its greenlet has not begun."""
    one = net(echo())
    gate = one.owner("echo").gates[0]
    accepted = gate._acceptor.accepted

    def accept_and_stop(sock: Any, address: Any) -> None:
        accepted(sock, address)
        stopping.append(gevent.spawn(one.served.close))

    stopping: list[Any] = []
    gate._acceptor.accepted = accept_and_stop
    with one.connect("echo") as sock:
        assert closed(sock)
        gevent.joinall(stopping, 10)
    assert not gate.greenlets


def test_what_is_left_at_the_end_of_the_drain_is_cut(net: Start) -> None:
    one = net(echo())
    with one.connect("echo") as sock:
        assert echoed(sock) == b"hello"
        one.served.close()
        assert closed(sock)
    assert one.log.find("are cut at the end of the drain")
