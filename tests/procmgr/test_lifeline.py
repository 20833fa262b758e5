"""The worker's end of its lifeline: sockets that it inherits, asks for, is refused; a leader that has gone."""

from __future__ import annotations

import json
import socket

import gevent
import pytest

from hemi.binding import ListenOptions, resolve
from hemi.procmgr.lifeline import Lifeline

TARGET = resolve("127.0.0.1", 0, "")
OPTIONS = ListenOptions()


def pair() -> tuple[socket.socket, int]:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    ours.settimeout(5)
    return ours, theirs.detach()


def test_what_was_inherited_is_taken_without_asking() -> None:
    leader, descriptor = pair()
    listening = [socket.create_server(("127.0.0.1", 0)) for _ in range(2)]
    names = [each.getsockname() for each in listening]
    line = Lifeline(descriptor, {"a": listening[0].detach(), "b": listening[1].detach()})
    sock = line.take(("a", ""), TARGET, OPTIONS, "main")
    assert sock.getsockname() == names[0]
    line.close_rest()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(names[1], 5)
    sock.close()
    line.sock.close()
    leader.close()


def test_what_was_not_is_asked_for() -> None:
    leader, descriptor = pair()
    line = Lifeline(descriptor, {})
    asker = gevent.spawn(line.take, ("127.0.0.1:0", "main"), TARGET, OPTIONS, "main")
    request = json.loads(leader.recv(65536))
    assert request["listen"] == ["127.0.0.1:0", "main"]
    assert (request["owner"], request["target"][1]) == ("main", ["127.0.0.1", 0])
    with socket.create_server(("127.0.0.1", 0)) as listening:
        name = listening.getsockname()
        socket.send_fds(leader, [b"{}"], [listening.fileno()])
        sock = asker.get(timeout=5)
    assert sock.getsockname() == name
    sock.close()
    line.sock.close()
    leader.close()


def test_what_the_leader_refuses() -> None:
    leader, descriptor = pair()
    line = Lifeline(descriptor, {})
    asker = gevent.spawn(line.take, (":80", ""), TARGET, OPTIONS, "main")
    leader.recv(65536)
    leader.send(b'{"error": "Address already in use", "errno": 98}')
    with pytest.raises(OSError, match="already in use") as caught:
        asker.get(timeout=5)
    assert caught.value.errno == 98
    line.sock.close()
    leader.close()


def test_a_leader_that_has_gone() -> None:
    leader, descriptor = pair()
    line = Lifeline(descriptor, {})
    assert line.tell({"beat": {}})
    assert not line.is_cut()
    leader.recv(100)
    leader.close()
    assert line.is_cut()
    assert not line.tell({"beat": {}})
    line.sock.close()


def test_a_leader_that_does_not_read_holds_nobody_up() -> None:
    leader, descriptor = pair()
    line = Lifeline(descriptor, {})
    with gevent.Timeout(5):
        while line.tell({"blocked": 1, "stack": "x" * 10000}):
            pass
    line.sock.close()
    leader.close()
