"""Stages with routers and echo servers in this process, and what connects to them."""

from __future__ import annotations

import socket
import ssl
from typing import Any

import pytest

import hemi.builtin  # noqa: F401  registers its components
from hemi.config import load_text
from hemi.errors import ConfigError
from hemi.source import Dirs
from tests.running import Served
from tests.upstream.kit import Lines
from tests.waiting import TIMEOUT
from tests.waiting import until as until


class Net:
    """What runs, with what it logs. `access` has the lines of the access log."""

    def __init__(self, text: str, dirs: Dirs) -> None:
        self.dirs = dirs
        self.served = Served(text, dirs)
        self.log = Lines()
        self.served.stage.log.logger = self.log  # type: ignore[assignment]

    def owner(self, name: str) -> Any:
        """The router or server of a name."""
        members = self.served.stage.members
        return members["routers"].get(name) or members["servers"][name]

    def address(self, name: str, number: int = 0) -> str:
        """Where it listens."""
        return str(self.owner(name).addresses[number])

    def connect(self, name: str, number: int = 0) -> socket.socket:
        """A connection to it."""
        return dial(self.address(name, number))

    def reload(self, text: str) -> None:
        """Reloads; the log is that of before."""
        self.served.reload(text)
        self.served.stage.log.logger = self.log  # type: ignore[assignment]

    def records(self, name: str) -> list[Any]:
        """Gathers (status, reason, line) of the connections that end from now on."""
        found: list[Any] = []

        def record(conn: Any) -> None:
            found.append((conn.status, conn.reason, conn.line(), conn.bytes_received, conn.bytes_sent))

        self.owner(name).record = record
        return found


def dial(address: str) -> socket.socket:
    """Connects to "host:port", a path or an @abstract name."""
    host, _, port = address.rpartition(":")
    if not host:
        sock = socket.socket(socket.AF_UNIX)
        sock.settimeout(TIMEOUT)
        sock.connect("\0" + address[1:] if address.startswith("@") else address)
        return sock
    return socket.create_connection((host.strip("[]"), int(port)), timeout=TIMEOUT)


def receive(sock: socket.socket, size: int) -> bytes:
    """Exactly so many bytes, or fewer at the end."""
    pieces = []
    while size and (piece := sock.recv(min(size, 1 << 20))):
        pieces.append(piece)
        size -= len(piece)
    return b"".join(pieces)


def rest(sock: socket.socket) -> bytes:
    """All up to the end."""
    return receive(sock, 1 << 40)


def echoed(sock: socket.socket, data: bytes = b"hello") -> bytes:
    """Sends, and receives as much."""
    sock.sendall(data)
    return receive(sock, len(data))


def untrusting(*protocols: str) -> ssl.SSLContext:
    """A client that takes any certificate."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    if protocols:
        context.set_alpn_protocols(protocols)
    return context


def problems(text: str, dirs: Dirs) -> str:
    """What is wrong with a configuration."""
    with pytest.raises(ConfigError) as raised:
        load_text(text, dirs)
    return str(raised.value)
