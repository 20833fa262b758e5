"""The examples of layer 4 do what their comments say."""

from __future__ import annotations

import socket
from collections.abc import Callable
from pathlib import Path

from tests.dnsserver import DNSServer
from tests.net.conftest import net  # noqa: F401  a fixture
from tests.net.kit import Net, echoed, until, untrusting
from tests.net.test_listening import closed
from tests.net.udpkit import Client, Node, closed_port
from tests.peer import Peer
from tests.running import TOP_DIR, require_program, run

Start = Callable[[str], Net]


def example(name: str, **changes: str) -> str:
    """The text of an example; each change must have something to change."""
    text = (TOP_DIR / "conf" / "examples" / name).read_text()
    for old, new in changes.items():
        assert old in text
        text = text.replace(old, new)
    return text


def test_tcpx_proxy(net: Start, tmp_path: Path) -> None:  # noqa: F811
    peer = Peer()
    try:
        text = example("tcpx_proxy.yaml", **{'":5432"': '"127.0.0.1:0"', "127.0.0.1:15432": peer.address})
        one = net(text.replace("target: stdout", f"target: {tmp_path}/l4.log"))
        with one.connect("db") as sock:
            assert echoed(sock) == b"hello"
        until(lambda: not one.owner("db").conns)
        one.served.close()
        assert f"> {peer.address} status=200 in=5 out=5" in (tmp_path / "l4.log").read_text()
    finally:
        peer.stop()


def test_sni_router(net: Start) -> None:  # noqa: F811
    seen: list[bytes] = []

    def look(sock: socket.socket) -> None:
        seen.append(sock.recv(5000))

    peer = Peer(look)
    try:
        text = example("sni_router.yaml", **{'":4443"': '"127.0.0.1:0"', "127.0.0.1:9443": peer.address})
        one = net(text.replace("127.0.0.1:2222", peer.address))
        context = untrusting("imap")
        with context.wrap_socket(
            one.connect("front"), server_hostname="a.mail.example.com", do_handshake_on_connect=False
        ) as client:
            try:
                client.do_handshake()
            except OSError:
                pass
        assert b"a.mail.example.com" in seen[0] and seen[0][0] == 0x16
        with one.connect("front") as sock:
            sock.sendall(b"SSH-2.0-x")
            assert closed(sock)
        assert seen[1] == b"SSH-2.0-x"
    finally:
        peer.stop()


def test_echo(net: Start) -> None:  # noqa: F811
    one = net(example("echo.yaml", **{'":7007", "@gorox-echo"': '"127.0.0.1:0"'}))
    with one.connect("echo") as sock:
        assert echoed(sock) == b"hello"
    with Client(one.owner("echo").addresses[1]) as client:
        assert client.ask() == b"hello"


def test_udpx_proxy(net: Start, tmp_path: Path) -> None:  # noqa: F811
    dig = require_program("dig", "bind9-dnsutils")
    dns = DNSServer()
    dns.zone[("example.com.", "A")] = ["192.0.2.7"]
    node = Node()
    try:
        text = example(
            "udpx_proxy.yaml",
            **{
                '"127.0.0.1:5353"': '"127.0.0.1:0"',
                '":4433"': '"127.0.0.1:0"',
                "127.0.0.1:15353": f"127.0.0.1:{dns.address[1]}",
                "127.0.0.1:15354": f"127.0.0.1:{closed_port()}",
                "127.0.0.1:14433": node.address,
            },
        )
        one = net(text.replace("target: stdout", f"target: {tmp_path}/udp.log"))
        host, _, port = one.address("dns").rpartition(":")
        done = run([dig, f"@{host}", "-p", port, "+short", "+tries=1", "+timeout=8", "example.com"])
        assert done.stdout == "192.0.2.7\n", done
        until(lambda: (".", "NS") in dns.asked)  # the check
        with Client(one.address("quic")) as client:
            assert client.ask(b"\xc3initial") == b"\xc3initial"
        with Client(one.address("quic")) as client:
            client.send(b"something else")
            until(lambda: one.log.find("no case deals with it"))
        one.served.close()
        assert "status=200 in=1/" in (tmp_path / "udp.log").read_text()
    finally:
        dns.close()
        node.stop()
