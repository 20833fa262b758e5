"""What takes datagrams: addresses of all sorts, and what is given back."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from pathlib import Path
from time import monotonic

import gevent
import pytest

import hemi.listeners
from hemi.procmgr.single import addresses
from tests.net.kit import Net, until
from tests.net.udpkit import Client, backend, nodes, router, to

Start = Callable[[str], Net]


def test_several_addresses(net: Start, tmp_path: Path) -> None:
    path, name = tmp_path / "d.sock", f"@gorox-dgram-{os.getpid()}"
    with nodes(None) as (node,):
        listening = f'["127.0.0.1:0", "[::1]:0", "{path}", "{name}"]'
        one = net(router(to("b"), "    uds_mode: '0600'\n", backend("b", node.address), listening))
        for number in range(2):
            with Client(one.address("front", number)) as client:
                assert client.ask() == b"hello"
        for number, where in ((2, str(path)), (3, "\0" + name[1:])):
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
                sock.bind(str(tmp_path / f"client{number}"))
                sock.settimeout(5)
                sock.connect(where)
                sock.send(b"hello")
                assert sock.recv(100) == b"hello"
        assert path.stat().st_mode & 0o777 == 0o600
        assert addresses(one.served.stage) == [f'router "front" at {" and ".join(one.owner("front").urls())}']
        assert one.owner("front").urls()[0].startswith("udp 127.0.0.1:")
        one.served.close()
        assert not path.exists()


def test_answers_come_from_the_address_that_was_asked(net: Start) -> None:
    with nodes(None) as (node,):
        one = net(
            router(
                to("b", condition='$dst_host == "127.0.0.9"'),
                backends=backend("b", node.address),
                address='":0"',
            )
        )
        port = one.address("front").rpartition(":")[2]
        with Client(f"127.0.0.9:{port}") as client:
            assert client.ask() == b"hello"
        with Client(f"127.0.0.8:{port}") as client:
            client.send(b"hello")
            assert client.hears_nothing()


def test_unnamed_clients_of_unix_sockets_are_one_source(net: Start, tmp_path: Path) -> None:
    path = str(tmp_path / "sock")
    with nodes(lambda data: []) as (node,):
        net(
            router(
                to("b", "responses: 0", '$uds == "on"'),
                backends=backend("b", node.address),
                address=f'"{path}"',
            )
        )
        for _ in range(3):
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
                sock.sendto(b"line", path)
        until(lambda: len(node.got) == 3)
        assert len({peer for _, peer in node.got}) == 1


def test_only_the_first_process_takes_the_datagrams_of_a_path(
    net: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hemi.listeners, "share", 2)
    with nodes(None) as (node,):
        one = net(
            router(to("b"), backends=backend("b", node.address), address=f'["{tmp_path}/d", "127.0.0.1:0"]')
        )
        assert len(one.owner("front").addresses) == 1
        assert not (tmp_path / "d").exists()
        assert hemi.listeners.listening_keys()[-1] == ("udp 127.0.0.1:0 #2", "front")


def test_an_address_is_given_back_once(net: Start) -> None:
    """A stop can be hurried by a second one."""
    with nodes(lambda data: []) as (node,):
        one = net(router(to("b"), backends=backend("b", node.address)))
        front = one.owner("front")
        listener = front.gates[0].listener
        with Client(one.address("front")) as client:
            client.send(b"hello")
            until(lambda: node.got)
        listener.users += 1  # somebody else has it, too
        stopping = gevent.spawn(one.served.close, 20.0)
        until(lambda: listener.reader is None)
        front.stage.stop(monotonic())
        stopping.join(5)
        assert stopping.dead and listener.users == 1
        listener.release()
