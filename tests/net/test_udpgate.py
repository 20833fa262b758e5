"""Gates for datagrams: what is kept while nobody has decided, dealets that wait, and what is dropped."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gevent
import pytest
from gevent.event import Event

from hemi.net import udpgate
from tests.net.kit import Net, until
from tests.net.udpkit import Client, backend, nodes, router, to

Start = Callable[[str], Net]


def slow(one: Net, ready: Event) -> None:
    """Has the router wait before it decides about a source whose first datagram says so."""
    front = one.owner("front")
    serve = front.serve

    def waiting(conn: Any) -> None:
        if conn.first_bytes.startswith(b"slow"):
            ready.wait()
        serve(conn)

    front.serve = waiting


def test_who_waits_does_not_stop_the_others(net: Start) -> None:
    ready = Event()
    with nodes(None) as (node,):
        one = net(router(to("b"), backends=backend("b", node.address)))
        slow(one, ready)
        with Client(one.address("front")) as client, Client(one.address("front")) as other:
            client.send(b"slow")
            until(lambda: one.owner("front").conns == 1)
            for number in range(20):
                client.send(b"%d" % number)
            assert other.ask() == b"hello"
            ready.set()
            assert [client.receive() for _ in range(16)] == [
                b"slow",
                *(b"%d" % number for number in range(15)),
            ]
            assert client.hears_nothing()  # the others were too many
            assert one.owner("front").gates[0].dropped == 5


def test_there_are_only_so_many_who_wait(net: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(udpgate, "MOST_NEW", 2)
    ready = Event()
    with nodes(None) as (node,):
        one = net(router(to("b"), backends=backend("b", node.address)))
        slow(one, ready)
        clients = [Client(one.address("front")) for _ in range(3)]
        for client in clients:
            client.send(b"slow")
        until(lambda: one.log.find("2 new sessions wait"))
        ready.set()
        assert [client.receive() for client in clients[:2]] == [b"slow"] * 2
        for client in clients:
            client.sock.close()


def test_a_dealet_that_raises(net: Start) -> None:
    with nodes(None) as (node,):
        one = net(router(to("b"), backends=backend("b", node.address)))
        front = one.owner("front")

        def broken(conn: Any) -> None:
            raise RuntimeError("a bug")

        front.serve = broken
        with Client(one.address("front")) as client:
            client.send(b"hello")
            until(lambda: one.log.find("a bug"))
            until(lambda: not front.conns)


def test_a_stop_while_somebody_waits(net: Start) -> None:
    with nodes(None) as (node,):
        one = net(router(to("b"), backends=backend("b", node.address)))
        slow(one, Event())
        with Client(one.address("front")) as client:
            client.send(b"slow")
            until(lambda: one.owner("front").conns == 1)
            gate = one.owner("front").gates[0]
            one.served.close()
            assert not gate.conns
            gevent.sleep(0)
            assert not gate._deciding


def test_too_large_for_a_datagram(net: Start, tmp_path: Path) -> None:
    """Only Unix domain sockets carry more than 65535 bytes; what would be cut is dropped."""
    path = str(tmp_path / "d")
    with nodes(lambda data: []) as (node,):
        one = net(router(to("b"), backends=backend("b", node.address), address=f'"{path}"'))
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 20)
            sock.sendto(os.urandom(70000), path)
            until(lambda: one.log.find("larger than 65535 bytes"))
            assert not node.got


def test_a_client_that_has_gone(net: Start, tmp_path: Path) -> None:
    with nodes(lambda data: []) as (node,):
        one = net(router(to("b"), backends=backend("b", node.address), address=f'"{tmp_path}/d"'))
        found = one.records("front")
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
            sock.bind(str(tmp_path / "c"))
            sock.sendto(b"hello", f"{tmp_path}/d")
            until(lambda: node.got)
        node.sock.sendto(b"answer", node.got[0][1])
        until(lambda: found)
        assert found[0][1] == "the client has gone"
