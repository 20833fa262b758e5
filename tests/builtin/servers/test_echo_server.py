"""The echo server; what it shares with routers is tested in tests/net/test_listening.py."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable

import gevent

from tests.net.conftest import net  # noqa: F401  a fixture
from tests.net.kit import Net, echoed, rest, until
from tests.net.test_listening import closed, echo

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
