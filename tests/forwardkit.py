"""What tests of forward proxies share: something to reach behind them, and their configuration."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import gevent
from gevent import socket

TIMEOUT = 30.0

HASH = "{PLAIN}gorox"

Handle = Callable[[Any], None]


def echo(conn: Any) -> None:
    """Sends back what comes, until the end."""
    while data := conn.recv(65536):
        conn.sendall(data)


class Target:
    """Accepts on 127.0.0.1 and runs `handle(socket)` for each connection."""

    def __init__(self, handle: Handle) -> None:
        self.handle = handle
        self.accepted = 0
        self.open = 0
        self.listening = socket.socket()
        self.listening.bind(("127.0.0.1", 0))
        self.listening.listen(64)
        self.port: int = self.listening.getsockname()[1]
        self.conns: list[Any] = []
        self.tasks = [gevent.spawn(self._accept)]

    def _accept(self) -> None:
        while True:
            conn, _ = self.listening.accept()
            self.accepted += 1
            self.open += 1
            self.conns.append(conn)
            self.tasks.append(gevent.spawn(self._serve, conn))

    def _serve(self, conn: Any) -> None:
        conn.settimeout(TIMEOUT)
        try:
            with conn:
                self.handle(conn)
        except OSError:
            pass
        finally:
            self.open -= 1


@contextmanager
def target(handle: Handle = echo) -> Iterator[Target]:
    """A target, an echo by default."""
    one = Target(handle)
    try:
        yield one
    finally:
        gevent.killall(one.tasks)
        for conn in (*one.conns, one.listening):  # a task may have been killed before it began
            conn.close()


def closed_port() -> int:
    """A port on which nobody listens."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


def read(sock: Any, size: int) -> bytes:
    """Exactly so many bytes, or what came before the end."""
    data = b""
    while len(data) < size and (piece := sock.recv(size - len(data))):
        data += piece
    return data


def read_all(sock: Any) -> bytes:
    """All until the end."""
    data = b""
    while piece := sock.recv(65536):
        data += piece
    return data
