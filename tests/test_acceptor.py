"""Accepting, and pausing when something is short."""

from __future__ import annotations

import os
import socket
from _socket import socket as RawSocket
from collections.abc import Iterator
from typing import Any

import gevent
import pytest

from hemi import acceptor
from hemi.acceptor import Acceptor
from hemi.binding import ListenOptions
from hemi.listeners import listen
from hemi.values import Addr
from tests.waiting import until


class Accepting:
    """An acceptor and what it has accepted."""

    def __init__(self) -> None:
        self.listener = listen(Addr("127.0.0.1", 0, ""), ListenOptions(), "acceptor")
        self.accepted: list[RawSocket] = []
        self.said: list[str] = []
        self.full = False
        self.acceptor = Acceptor(
            self.listener, lambda sock, _: self.accepted.append(sock), self.said.append, lambda: self.full
        )
        self.acceptor.start()

    def dial(self) -> Any:
        return socket.create_connection(self.listener.sock.getsockname(), timeout=5)

    def close(self) -> None:
        self.acceptor.stop()
        self.acceptor.stop()
        for sock in self.accepted:
            sock.close()
        self.listener.release()


@pytest.fixture
def accepting() -> Iterator[Accepting]:
    accepting = Accepting()
    yield accepting
    accepting.close()


def test_accepting(accepting: Accepting) -> None:
    clients = [accepting.dial() for _ in range(100)]
    until(lambda: len(accepting.accepted) == 100)
    for sock in accepting.accepted:
        assert sock.gettimeout() == 0.0
        assert not os.get_inheritable(sock.fileno())
        assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
    for client in clients:
        client.close()


def test_a_pause(accepting: Accepting, monkeypatch: pytest.MonkeyPatch) -> None:
    looks = [0]

    def is_full() -> bool:
        looks[0] += 1
        return accepting.full

    accepting.acceptor.is_full = is_full
    accepting.full = True
    with accepting.dial(), accepting.dial():
        until(lambda: accepting.acceptor.paused)
        before = looks[0]
        gevent.sleep(0.35)
        assert looks[0] - before <= 5  # no busy loop
        assert accepting.accepted == []
        accepting.full = False
        until(lambda: len(accepting.accepted) == 2)
        assert not accepting.acceptor.paused
        assert len(accepting.said) == 1
        accepting.full = True
        with accepting.dial():
            until(lambda: accepting.acceptor.paused)
            until(lambda: len(accepting.said) == 2)
            accepting.full = False
            until(lambda: len(accepting.accepted) == 3)


def test_the_reserve(accepting: Accepting) -> None:
    """When a descriptor of the reserve was given out, accepting pauses."""
    accepting.acceptor._limit = 3
    with accepting.dial(), accepting.dial():
        until(lambda: accepting.acceptor.paused)
        assert len(accepting.accepted) == 1
        assert "is in use" in accepting.said[0]
        gevent.sleep(2.5 * acceptor.RETRY_INTERVAL)
        assert len(accepting.accepted) == 1
        accepting.acceptor._limit = 10_000
        until(lambda: len(accepting.accepted) == 2)
