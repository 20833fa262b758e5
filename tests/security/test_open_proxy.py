"""Row 15 of the threats: forward proxies are no way into the network that they stand in, nor an open proxy."""

from __future__ import annotations

import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.dnsserver import DNSServer
from tests.forwardkit import read, read_all, target
from tests.running import Served, until
from tests.webkit import dial

Serve = Callable[..., Served]

EVERYTHING_WIDE = '{names: "*"}, {networks: ["0.0.0.0/0", "::/0"]}, {ports: "1-65535"}'


def config(allow: str, before: str = "") -> str:
    text = f"{before}servers:\n"
    for name in ("socks", "tunnel"):
        text += f'  {name}: {{type: {name}_server, address: "127.0.0.1:0", allow: [{allow}]}}\n'
    return text


def by_socks(served: Served, host: str, port: int) -> bool:
    """Whether the SOCKS server connects; what it says must be that its rules forbid it."""
    with dial(served.address("socks")) as sock:
        name = host.encode()
        sock.sendall(b"\5\1\0\5\1\0\3" + bytes((len(name),)) + name + struct.pack("!H", port))
        assert read(sock, 2) == b"\5\0"
        code = read(sock, 10)[1]
        assert code in (0, 2, 4)
        return code == 0


def by_tunnel(served: Served, host: str, port: int, line: str = "CONNECT {} HTTP/1.1") -> bool:
    with dial(served.address("tunnel")) as sock:
        where = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        sock.sendall(f"{line.format(where)}\r\nHost: x\r\n\r\n".encode())
        answer = read(sock, 12)
        assert answer in (b"HTTP/1.1 200", b"HTTP/1.1 403", b"HTTP/1.1 400", b"HTTP/1.1 502")
        return answer == b"HTTP/1.1 200"


def ways(served: Served, host: str, port: int) -> list[bool]:
    return [
        by_socks(served, host, port),
        by_tunnel(served, host, port),
        by_tunnel(served, host, port, "GET http://{}/ HTTP/1.1"),
    ]


INSIDE = [
    "127.0.0.1", "localhost", "LOCALHOST.", "x.localhost", "::1", "::ffff:127.0.0.1", "0.0.0.0", "::", "127.1",
    "2130706433", "0x7f000001", "0177.0.0.1", "127.0.0.1.", "[::1]", "::1%lo", "169.254.169.254", "fd00:ec2::254",
    "64:ff9b::7f00:1", "2002:7f00:1::",
]  # fmt: skip


@pytest.mark.parametrize("host", INSIDE)
def test_no_way_in(serve: Serve, host: str) -> None:
    """However an inner address is written, rules that mean the Internet do not let it pass."""
    served = serve(config(EVERYTHING_WIDE))
    with target() as there:
        assert ways(served, host, there.port) == [False] * 3
        assert there.accepted == 0


def test_without_rules_there_is_no_way_at_all(serve: Serve) -> None:
    served = serve(config(""))
    for host in ("127.0.0.1", "93.184.216.34", "example.com"):
        assert ways(served, host, 80) == [False] * 3


@pytest.fixture
def dns() -> Any:
    server = DNSServer()
    yield server
    server.close()


def test_names_of_inner_addresses(serve: Serve, tmp_path: Path, dns: DNSServer) -> None:
    """A name of a stranger's that points inside is refused once it is resolved; a forbidden one is not asked for."""
    dns.zone[("inside.example.org.", "A")] = ["127.0.0.1"]
    dns.zone[("inside.example.org.", "AAAA")] = ["::1"]
    before = f'resolv: {{servers: ["127.0.0.1:{dns.address[1]}"], hosts_file: {tmp_path}/none}}\n'
    served = serve(config('{names: "*.example.org"}', before))
    with target() as there:
        assert ways(served, "inside.example.org", there.port) == [False] * 3
        assert dns.asked
        dns.asked.clear()
        assert ways(served, "inside.example.net", there.port) == [False] * 3
        assert dns.asked == []
        assert there.accepted == 0


def test_a_second_answer_of_the_dns_changes_nothing(serve: Serve, tmp_path: Path, dns: DNSServer) -> None:
    """DNS rebinding: the address that was judged is the one that is dialled; of several, only those that may be are."""
    dns.ttl = 0
    dns.zone[("a.example.org.", "A")] = ["127.0.0.2", "127.0.0.1", "10.0.0.1"]
    before = f'resolv: {{servers: ["127.0.0.1:{dns.address[1]}"], hosts_file: {tmp_path}/none}}\n'
    served = serve(config('{names: "*.example.org", networks: 127.0.0.1}', before))
    with target() as there:
        asked = len(dns.asked)
        assert by_socks(served, "a.example.org", there.port)
        assert len(dns.asked) - asked == 2  # A and AAAA, once
        until(lambda: there.accepted == 1)


def test_a_password_is_never_passed_on(serve: Serve) -> None:
    served = serve(config("{networks: 127.0.0.0/8}"))
    heads: list[bytes] = []

    def site(conn: Any) -> None:
        heads.append(conn.recv(65536))
        conn.sendall(b"HTTP/1.1 204 No Content\r\n\r\n")

    with target(site) as there, dial(served.address("tunnel")) as sock:
        sock.sendall(
            b"GET http://127.0.0.1:%d/ HTTP/1.1\r\nHost: 10.0.0.1\r\nProxy-Authorization: Basic eDp5\r\n\r\n"
            % there.port
        )
        assert read_all(sock).startswith(b"HTTP/1.1 204")
        assert b"eDp5" not in heads[0] and b"10.0.0.1" not in heads[0]
