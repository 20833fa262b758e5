"""UDP ASSOCIATE of socks_server: who is heard, what the rules allow, and how long it lasts."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest
import socks as pysocks
from gevent import socket

from hemi.builtin.servers import socks_udp
from hemi.errors import ConfigError
from hemi.net.socks import encode_datagram_head
from tests.builtin.servers.test_socks_server import USERS, ask, config, login, name_request
from tests.dnsserver import DNSServer
from tests.forwardkit import read, read_all
from tests.net.udpkit import Node, nodes
from tests.running import Served, until
from tests.webkit import dial

Serve = Callable[..., Served]

UDP = "commands: udp_associate"


def head(host: str, port: int) -> bytes:
    """The header of a datagram to a name."""
    return struct.pack("!HBBB", 0, 0, 3, len(host)) + host.encode() + struct.pack("!H", port)


class Associated:
    """A client with an association."""

    def __init__(
        self, served: Served, request: bytes = b"\5\3\0\1" + bytes(6), source: str = "127.0.0.1"
    ) -> None:
        self.control, answer = ask(served, request)
        assert answer[:4] == b"\5\0\0\1", answer
        self.to = ".".join(map(str, answer[4:8])), int.from_bytes(answer[8:10], "big")
        self.sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.sock.bind((source, 0))
        self.sock.settimeout(10)

    def send(self, data: bytes) -> None:
        self.sock.sendto(data, self.to)

    def receive(self) -> bytes:
        data, peer = self.sock.recvfrom(70000)
        assert peer == self.to
        return bytes(data)

    def echoed(self, port: int, data: bytes = b"hello", host: str = "127.0.0.1") -> bool:
        """Whether a datagram comes back, from that port."""
        self.send((encode_datagram_head(host, port) if host[0].isdigit() else head(host, port)) + data)
        return self.receive() == encode_datagram_head("127.0.0.1", port) + data

    def hears_nothing(self, seconds: float = 0.05) -> bool:
        self.sock.settimeout(seconds)
        try:
            self.sock.recvfrom(70000)
        except TimeoutError:
            return True
        finally:
            self.sock.settimeout(10)
        return False

    def close(self) -> None:
        self.control.close()
        self.sock.close()


@contextmanager
def associated(served: Served, *arguments: Any, **keywords: Any) -> Iterator[Associated]:
    one = Associated(served, *arguments, **keywords)
    try:
        yield one
    finally:
        one.close()


def test_datagrams_there_and_back(serve: Serve, tmp_path: Path) -> None:
    served = serve(config(UDP, log=str(tmp_path / "access.log")))
    with nodes(None, None) as (node, other):
        with associated(served) as client:
            for data in (b"", b"hello", b"x" * 60000):
                assert client.echoed(node.port, data)
            assert client.echoed(other.port) and client.echoed(node.port, host="localhost")
            assert node.got[0][1] == other.got[0][1]  # a host sees the same port wherever the client sends to
        line = "127.0.0.1 - UDP_ASSOCIATE 0.0.0.0:0 200 60015 60015 -\n"
        assert until(lambda: (tmp_path / "access.log").read_text() == line), (
            tmp_path / "access.log"
        ).read_text()


def test_the_rules_hold_for_each_datagram(serve: Serve, tmp_path: Path) -> None:
    (tmp_path / "hosts").write_text("127.0.0.1 in.example.com evil.example.com\n10.9.9.9 ten.example.com\n")
    with nodes(None, None) as (node, other):
        allow = f'{{names: "*.example.com", networks: 127.0.0.0/8, ports: {node.port}}}'
        served = serve(
            f"resolv: {{hosts_file: {tmp_path}/hosts}}\n"
            + config(UDP, "deny: [{names: evil.example.com}]", allow=allow)
        )
        with associated(served) as client:
            assert client.echoed(node.port, host="in.example.com")
            for host, port in (
                ("127.0.0.1", node.port),
                ("in.example.com", other.port),
                ("evil.example.com", node.port),
                ("ten.example.com", node.port),
                ("no.such.invalid", node.port),
                ("127.1", node.port),
                ("169.254.169.254", node.port),
                ("in.example.com", 0),
            ):
                client.send(head(host, port) + b"no")
            assert client.hears_nothing()
            assert client.echoed(node.port, host="IN.example.com.")
            assert len(node.got) == 2 and not other.got


def test_rules_of_users(serve: Serve) -> None:
    served = serve(config(UDP, *USERS, allow="{users: anna, networks: 127.0.0.0/8}"))
    with nodes(None) as (node,):
        for user, answers in ((b"anna", True), (b"bert", False)):
            control, _ = login(served, user, b"gorox")
            control.sendall(b"\5\3\0\1" + bytes(6))
            answer = read(control, 10)
            assert answer[1] == 0
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
                sock.settimeout(10 if answers else 0.05)
                sock.sendto(
                    encode_datagram_head("127.0.0.1", node.port),
                    ("127.0.0.1", int.from_bytes(answer[8:], "big")),
                )
                if answers:
                    assert sock.recv(100) == encode_datagram_head("127.0.0.1", node.port)
                else:
                    with pytest.raises(TimeoutError):
                        sock.recv(100)
            control.close()


def test_only_the_client_is_heard(serve: Serve) -> None:
    served = serve(config(UDP))
    with nodes(None) as (node,), associated(served) as client:
        data = encode_datagram_head("127.0.0.1", node.port) + b"hello"
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.bind(("127.0.0.2", 0))
            sock.sendto(data, client.to)
        assert client.echoed(node.port)
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:  # the right host, another port
            sock.sendto(data, client.to)
        assert client.echoed(node.port)
        assert len(node.got) == 2


def test_the_port_that_a_client_names(serve: Serve) -> None:
    served = serve(config(UDP))
    with nodes(None) as (node,), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(("127.0.0.1", 0))
        sock.settimeout(10)
        request = b"\5\3\0\1\x7f\0\0\1" + struct.pack("!H", sock.getsockname()[1])
        with associated(served, request) as client:
            data = encode_datagram_head("127.0.0.1", node.port) + b"hello"
            client.send(data)  # from another one
            assert client.hears_nothing()
            sock.sendto(data, client.to)
            assert sock.recv(100) == data


def test_only_hosts_that_were_asked_are_heard(serve: Serve) -> None:
    served = serve(config(UDP))
    with nodes(None) as (node,), associated(served) as client:
        assert client.echoed(node.port)
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.sendto(b"forged", node.got[0][1])
        node.sock.sendto(b"news", node.got[0][1])
        assert client.receive()[10:] == b"news"


@pytest.mark.parametrize("data", [b"", b"\0", b"\0\0\0\1\x7f", b"\0\0\0\7abc", b"\0\0\0\3\xffab", b"\1\0\0"])
def test_what_is_malformed_is_dropped(serve: Serve, data: bytes) -> None:
    served = serve(config(UDP))
    with nodes(None) as (node,), associated(served) as client:
        client.send(data)
        client.send(b"\0\1\0" + encode_datagram_head("127.0.0.1", node.port)[3:])
        client.send(b"\0\0\1" + encode_datagram_head("127.0.0.1", node.port)[3:] + b"a fragment")
        assert client.echoed(node.port)
        assert len(node.got) == 1


def test_sizes_are_limited(serve: Serve) -> None:
    served = serve(config(UDP, "max_datagram_size: 1000"))
    with nodes(lambda data: data * 2, None) as (double, node), associated(served) as client:
        client.send(encode_datagram_head("127.0.0.1", node.port) + b"x" * 1001)
        client.send(encode_datagram_head("127.0.0.1", double.port) + b"x" * 501)
        assert client.echoed(node.port, b"x" * 1000)
        assert len(node.got) == 1 and len(double.got) == 1


def test_it_ends_with_its_connection(serve: Serve) -> None:
    served = serve(config(UDP))
    with nodes(None) as (node,):
        me = psutil.Process()
        before = me.num_fds()
        client = Associated(served)
        assert client.echoed(node.port)
        client.control.sendall(b"nothing that matters")
        assert client.echoed(node.port)
        client.control.close()
        assert until(lambda: not served.server().conns)
        client.send(encode_datagram_head("127.0.0.1", node.port) + b"late")
        client.sock.close()
        assert me.num_fds() <= before and len(node.got) == 2


@pytest.mark.parametrize("limit", ["idle_timeout: 200ms", "max_lifetime: 1s"])
def test_it_ends_when_it_is_idle_or_old(serve: Serve, limit: str) -> None:
    served = serve(config(UDP, limit))
    with nodes(None) as (node,), associated(served) as client:
        assert client.echoed(node.port)
        assert read_all(client.control) == b""
        assert until(lambda: not served.server().conns)


def test_slow_names_stop_nobody(serve: Serve, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socks_udp, "MOST_ASKED", 1)
    dns = DNSServer()
    dns.delay = {"A": 1.0, "AAAA": 1.0}
    dns.zone[("slow.example.", "A")] = ["127.0.0.1"]
    resolv = f'resolv: {{servers: ["127.0.0.1:{dns.address[1]}"], hosts_file: {tmp_path}/none}}\n'
    served = serve(resolv + config(UDP))
    try:
        with nodes(None) as (node,), associated(served) as client:
            for number in range(12):
                client.send(head("slow.example", node.port) + b"%d" % number)
            client.send(head("other.example", node.port) + b"too many names")
            assert client.echoed(node.port)
            assert sorted(client.receive()[10:] for _ in range(8)) == [b"%d" % number for number in range(8)]
            assert client.hears_nothing()
    finally:
        dns.close()


def test_only_so_many_hosts_are_remembered(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socks_udp, "MOST_GOALS", 2)
    served = serve(config(UDP))
    found = [Node() for _ in range(3)]
    with associated(served) as client:
        for node in found:
            assert client.echoed(node.port)
        found[0].sock.sendto(b"too late", found[0].got[0][1])
        found[1].sock.sendto(b"news", found[1].got[0][1])
        assert client.receive()[10:] == b"news"
    for node in found:
        node.stop()


def test_it_needs_an_address(serve: Serve, tmp_path: Path) -> None:
    served = serve(config(UDP, address=f'"{tmp_path}/s"'))
    with dial(served.address()) as sock:
        sock.sendall(b"\5\1\0\5\3\0\1" + bytes(6))
        assert read(sock, 2) == b"\5\0" and read_all(sock)[:2] == b"\5\1"


def test_socks4_has_none(serve: Serve) -> None:
    served = serve(config(UDP))
    with dial(served.address()) as sock:
        sock.sendall(struct.pack("!BBH4s", 4, 3, 0, b"\x7f\0\0\1") + b"\0")
        assert read_all(sock)[:2] == b"\0\x5b"
    sock, answer = ask(served, name_request(b"127.0.0.1", 80, 1))
    assert answer[1] == 7
    sock.close()


def test_the_host_and_ports_that_clients_are_told(serve: Serve) -> None:
    served = serve(config(UDP, "relay_host: 192.0.2.7", 'relay_ports: "45000-45099"'))
    sock, answer = ask(served, b"\5\3\0\1" + bytes(6))
    assert answer[4:8] == b"\xc0\0\2\7" and 45000 <= int.from_bytes(answer[8:], "big") <= 45099
    sock.close()


def test_pysocks(serve: Serve) -> None:
    served = serve(config(UDP, *USERS))
    host, _, port = served.address().rpartition(":")
    with nodes(None) as (node,):
        sock = pysocks.socksocket(socket.AF_INET, socket.SOCK_DGRAM)
        sock.settimeout(10)
        sock.set_proxy(pysocks.SOCKS5, host, int(port), rdns=True, username="anna", password="gorox")
        for name in ("localhost", "127.0.0.1"):
            sock.sendto(b"hello", (name, node.port))
            assert sock.recvfrom(100) == (b"hello", ("127.0.0.1", node.port))
        sock.close()


def test_a_relay_host_is_an_address(serve: Serve) -> None:
    with pytest.raises(ConfigError, match="must be an address"):
        serve(config("relay_host: example.com"))


def test_associations_live_through_a_reload_and_end_with_the_drain(serve: Serve) -> None:
    """Under the rules that they began with."""
    served = serve("drain_timeout: 300ms\n" + config(UDP))
    with nodes(None) as (node,), associated(served) as client:
        assert client.echoed(node.port)
        served.reload("drain_timeout: 300ms\n" + config(UDP, allow="{networks: 10.0.0.0/8}"))
        assert client.echoed(node.port)
        with associated(served) as other:
            other.send(encode_datagram_head("127.0.0.1", node.port) + b"no")
            assert other.hears_nothing()
        try:
            assert read_all(client.control) == b""  # the old stage is over
        except ConnectionResetError:
            pass
        client.send(encode_datagram_head("127.0.0.1", node.port) + b"late")
        assert client.hears_nothing()
