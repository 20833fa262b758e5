"""Servers that do to each connection what a test says: the nodes of backends, whatever they speak."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Callable
from typing import Any

from gevent.server import StreamServer


class Peer:
    """Listens on 127.0.0.1 and does to each connection what `handle(sock)` says; echoes by default. `accepted` counts
    connections, `open` those that are there."""

    def __init__(
        self,
        handle: Callable[[Any], None] | None = None,
        context: ssl.SSLContext | None = None,
        port: int = 0,
    ) -> None:
        self.handle = handle or echo
        self.context = context
        self.accepted = 0
        self._socks: set[Any] = set()
        self.server: Any = None
        self.port = port
        self.start()

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    @property
    def open(self) -> int:
        return len(self._socks)

    def start(self) -> None:
        self.server = StreamServer(("127.0.0.1", self.port), self._serve)
        self.server.start()
        self.port = self.server.server_port

    def _serve(self, sock: Any, _: Any) -> None:
        self.accepted += 1
        self._socks.add(sock)
        try:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if self.context is not None:
                plain, sock = sock, self.context.wrap_socket(sock, server_side=True)
                self._socks.remove(plain)
                self._socks.add(sock)
            self.handle(sock)
        except (OSError, EOFError):
            pass
        finally:
            self._socks.discard(sock)
            sock.close()

    def stop(self) -> None:
        """Listens no more, and ends the connections."""
        for sock in list(self._socks):
            try:
                sock.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass
        self.server.stop(timeout=0)


def echo(sock: Any) -> None:
    """Sends back what comes."""
    while data := sock.recv(65536):
        sock.sendall(data)
