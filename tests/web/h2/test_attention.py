"""The reader of a connection, and those who call it."""

from __future__ import annotations

import socket
from _socket import socket as RawSocket
from collections.abc import Iterator

import gevent
import pytest

from hemi.sockets import Channel
from hemi.web.h2.attention import Attention
from tests.webkit import until


@pytest.fixture
def ends() -> Iterator[tuple[Channel, socket.socket]]:
    ours, theirs = socket.socketpair()
    raw = RawSocket(fileno=ours.detach())
    raw.setblocking(False)
    channel = Channel(raw)
    yield channel, theirs
    channel.close()
    theirs.close()


def test_what_comes_and_the_end(ends: tuple[Channel, socket.socket]) -> None:
    attention = Attention()
    ends[1].sendall(b"x")
    assert attention.receive(ends[0]) == b"x"
    ends[1].shutdown(socket.SHUT_WR)
    with pytest.raises(ConnectionResetError, match="the client has closed"):
        attention.receive(ends[0])


def test_a_reader_that_waits_for_its_client_is_called(ends: tuple[Channel, socket.socket]) -> None:
    attention = Attention()
    reader = gevent.spawn(attention.receive, ends[0])
    until(lambda: "receives" in repr(attention))
    attention.call()
    assert reader.get(timeout=30) == b""
    ends[1].sendall(b"later")
    assert attention.receive(ends[0]) == b"later"  # nothing was lost


def test_a_reader_that_waits_for_others_is_called() -> None:
    attention = Attention()
    reader = gevent.spawn(attention.wait)
    until(lambda: attention.waits)
    attention.call()
    attention.call()  # twice is once
    reader.get(timeout=30)
    assert not attention.waits


def test_nobody_is_called_who_does_not_wait() -> None:
    attention = Attention()
    attention.call()
    gevent.sleep(0.01)
    assert "elsewhere" in repr(attention)
