"""The echo server; what it shares with routers is tested in tests/net/test_listening.py."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from pathlib import Path

import gevent

from hemi.source import Dirs
from tests.net.conftest import net  # noqa: F401  a fixture
from tests.net.kit import Net, dial, echoed, problems, rest, until
from tests.net.test_listening import closed, echo
from tests.net.udpkit import Client

Start = Callable[[str], Net]


def test_it_echoes(net: Start) -> None:  # noqa: F811
    data = os.urandom(1 << 20) * 4
    one = net(echo())
    found = one.records("echo")
    with one.connect("echo") as sock:
        assert echoed(sock) == b"hello"
        sending = gevent.spawn(lambda: (sock.sendall(data), sock.shutdown(socket.SHUT_WR)))
        assert rest(sock) == data
        sending.join()
    until(lambda: found)
    assert found[0][0] == 200 and found[0][3:] == (len(data) + 5, len(data) + 5)


def test_idle(net: Start) -> None:  # noqa: F811
    one = net(echo("idle_timeout: 100ms"))
    with one.connect("echo") as sock:
        assert echoed(sock) == b"hello"
        assert closed(sock)


def test_datagrams(net: Start, tmp_path: Path) -> None:  # noqa: F811
    one = net(echo("transports: [tcp, udp]", '["127.0.0.1:0", ":0"]'))
    tcp, both, udp, all_of_them = one.owner("echo").addresses
    with dial(tcp) as sock:
        assert echoed(sock) == b"hello"
    for address in (udp, f"127.0.0.7:{all_of_them.rpartition(':')[2]}"):
        with Client(address) as client:
            for size in (0, 1, 65507):
                assert client.ask(b"x" * size) == b"x" * size
    assert both != tcp
    urls = one.owner("echo").urls()
    assert urls == [tcp, both, f"udp {udp}", f"udp {all_of_them}"]
    one.reload(echo("transports: [tcp, udp]", '["127.0.0.1:0", ":0"]'))
    with Client(udp) as client:
        assert client.ask() == b"hello"
    one.served.close()
    other = net(echo("transports: udp", f'["{tmp_path}/d"]'))
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.bind(str(tmp_path / "c"))
        sock.settimeout(5)
        sock.sendto(b"hello", f"{tmp_path}/d")
        assert sock.recv(100) == b"hello"
        assert other.owner("echo").requests == 1


def test_datagrams_of_services_are_not_echoed(net: Start) -> None:  # noqa: F811
    """A forged source would have two services answer each other for ever."""
    one = net(echo("transports: udp"))
    (port,) = one.owner("echo")._ports
    assert not port._may_answer(("127.0.0.1", 7)) and not port._may_answer(("127.0.0.1", port.own_port))
    assert port._may_answer(("127.0.0.1", 1024)) and port._may_answer("/run/client")
    with Client(one.address("echo"), "127.0.0.2") as client:
        assert client.ask() == b"hello"


def test_a_path_is_one_socket(dirs: Dirs) -> None:
    assert 'must be one of them for the path "/run/e"' in problems(
        echo("transports: [tcp, udp]", "/run/e"), dirs
    )
