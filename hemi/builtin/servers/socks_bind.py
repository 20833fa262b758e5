"""BIND of SOCKS (RFC 1928 §4): a port of this machine at which one connection is expected, from one host."""

from __future__ import annotations

import random
import socket
from _socket import socket as RawSocket
from typing import Any, cast

import gevent
from gevent import get_hub
from gevent.event import AsyncResult

from hemi.peers import plain_host
from hemi.sockets import READ, Channel

__all__ = ["Binding", "bind_within", "facing"]

ATTEMPTS = 64
"""How many ports of a range are tried."""


class Binding:
    """Listens for a connection from one of `expected` (addresses as text); others are closed at once. Raises OSError
    when there is no port for it."""

    def __init__(self, expected: list[str], ports: tuple[int, int] | None) -> None:
        self.expected = frozenset(expected)
        self.turned_away = 0
        host = facing(expected[0])
        self.sock = RawSocket(
            socket.AF_INET6 if ":" in host else socket.AF_INET,
            socket.SOCK_STREAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC,
        )
        try:
            bind_within(self.sock, host, ports)
            self.sock.listen(4)
        except BaseException:
            self.sock.close()
            raise

    def __repr__(self) -> str:
        return f"<Binding {self.address} expected={sorted(self.expected)}>"

    @property
    def address(self) -> tuple[str, int]:
        """Where it listens."""
        host, port = self.sock.getsockname()[:2]
        return str(host), int(port)

    def wait(self, client: Channel, seconds: float) -> RawSocket:
        """Waits for the connection. Raises TimeoutError, and EOFError when the client leaves meanwhile."""
        came: AsyncResult[RawSocket] = AsyncResult()
        loop = get_hub().loop
        accepting, leaving = loop.io(self.sock.fileno(), READ), loop.io(client.sock.fileno(), READ)
        accepting.start(self._accept, came)
        leaving.start(_look, client, leaving, came)
        try:
            with gevent.Timeout(seconds, TimeoutError("nobody came")):
                return cast("RawSocket", came.get())
        finally:
            accepting.close()
            leaving.close()

    def _accept(self, came: AsyncResult[RawSocket]) -> None:
        """Takes a connection that has come; in the hub."""
        try:
            fd, peer = self.sock._accept()  # type: ignore[attr-defined]
        except OSError:
            return  # it has gone again
        sock = RawSocket(self.sock.family, self.sock.type, 0, fd)
        if came.ready() or plain_host(peer[0]) not in self.expected:
            self.turned_away += 1
            sock.close()
            return
        sock.setblocking(False)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        came.set(sock)

    def close(self) -> None:
        """Listens no more. Idempotent."""
        self.sock.close()


def _look(client: Channel, watcher: Any, came: AsyncResult[RawSocket]) -> None:
    """Whether a client has left, or only sends ahead; in the hub."""
    try:
        if client.sock.recv(1, socket.MSG_PEEK):
            watcher.stop()
            return
    except BlockingIOError:
        return
    except OSError:
        pass
    if not came.ready():
        came.set_exception(EOFError("the client left before its peer came"))


def facing(address: str) -> str:
    """The address of ours from which another one is reached. Raises OSError when it is not."""
    with socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.connect((address, 9))  # of datagrams, this sends nothing
        return str(probe.getsockname()[0])


def bind_within(sock: RawSocket, host: str, ports: tuple[int, int] | None) -> None:
    """Binds to a free port within a range, or any. Raises OSError when none was found."""
    if ports is None:
        sock.bind((host, 0))
        return
    first, last = ports
    count = last - first + 1
    begin = random.randrange(count)
    tries = min(count, ATTEMPTS)
    for number in range(tries):
        try:
            sock.bind((host, first + (begin + number) % count))
            return
        except OSError:
            if number == tries - 1:
                raise
