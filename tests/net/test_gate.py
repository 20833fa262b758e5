"""Gates: limits of connections, and errors of those who serve them."""

from __future__ import annotations

import socket
from _socket import socket as RawSocket
from collections.abc import Callable
from typing import Any

import pytest

from tests.net.kit import Net, dial, echoed, until
from tests.net.test_listening import closed, echo

Start = Callable[[str], Net]


def test_too_many_are_turned_away(net: Start) -> None:
    one = net(echo("max_concurrent_conns: 2"))
    with one.connect("echo") as first, one.connect("echo") as second:
        assert echoed(first) == echoed(second) == b"hello"
        for _ in range(3):
            with one.connect("echo") as third:
                assert closed(third)
        assert echoed(first) == b"hello"
    gate = one.owner("echo").gates[0]
    assert gate.refused == 3 and len(one.log.find("turns connections away")) == 1
    until(lambda: not gate.greenlets)
    with one.connect("echo") as again:
        assert echoed(again) == b"hello"


def test_or_wait(net: Start) -> None:
    one = net(echo("max_concurrent_conns: 1, overload: pause"))
    with one.connect("echo") as first:
        assert echoed(first) == b"hello"
        second = one.connect("echo")
        second.sendall(b"later")
    with second:
        assert second.recv(5) == b"later"


@pytest.mark.parametrize(
    ("error", "logged"),
    [(ValueError("a bug"), "failed"), (OSError(5, "input/output error"), "failed"), (None, "")],
)
def test_errors(net: Start, error: Exception | None, logged: str) -> None:
    one = net(echo())
    found = one.records("echo")

    def serve(conn: Any) -> None:
        raise error or ConnectionResetError(104, "connection reset by peer")

    one.owner("echo").serve = serve
    with one.connect("echo") as sock:
        assert closed(sock)
    until(lambda: found)
    assert found[0][0] == (500 if isinstance(error, ValueError) else 400)
    assert bool(one.log.find("a connection from 127.0.0.1 failed")) is bool(logged)
    assert not one.owner("echo").gates[0].members and not one.owner("echo").conns


def test_the_log_tells_the_time_till_the_end(net: Start) -> None:
    """Lines are made a little later."""
    one = net(echo())
    found: list[Any] = []
    one.owner("echo").record = found.append
    with one.connect("echo"):
        pass
    until(lambda: found)
    (conn,) = found
    conn.started = conn.ended - 1.5
    assert conn.elapsed() == "1.500"


def test_it_listens_no_more(net: Start) -> None:
    one = net(echo())
    address = one.address("echo")
    one.served.close()
    with pytest.raises(OSError):
        dial(address)


def test_greenlets_are_used_again(net: Start) -> None:
    """One connection after another has the same greenlet; with the gate they end, those that wait as well."""
    one = net(echo())
    gate = one.owner("echo").gates[0]
    for _ in range(3):
        with one.connect("echo") as sock:
            assert echoed(sock) == b"hello"
            (serving,) = gate.greenlets
        until(lambda: gate._spare)
        assert gate._spare == [serving]
    with one.connect("echo") as sock, one.connect("echo") as other:
        assert echoed(sock) == echoed(other) == b"hello"
        assert serving in gate.greenlets
    until(lambda: len(gate._spare) == 2)
    spare = list(gate._spare)
    one.served.close()
    until(lambda: all(greenlet.dead for greenlet in spare))
    assert not gate._spare


def test_a_greenlet_that_is_cut_before_it_begins_anew(net: Start) -> None:
    """The connection was handed to it and the gate ends: the socket is closed."""
    one = net(echo())
    gate = one.owner("echo").gates[0]
    with one.connect("echo") as sock:
        assert echoed(sock) == b"hello"
    until(lambda: gate._spare)
    client, server = socket.socketpair()
    raw = RawSocket(server.family, server.type, server.proto, server.detach())
    with client:
        gate._accepted(raw, "")
        assert gate.greenlets and not gate._spare
        gate.retire()
        gate.join(0.0)
        assert not gate.greenlets and client.recv(1) == b""
