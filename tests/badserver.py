"""A scripted upstream: a server that does on each connection exactly what a test tells it, right or wrong.

A script is a list of steps, run for every connection in turn (the last script serves all further ones):

    Request()          reads a whole request; it can be looked at in `server.requests`
    Head()             reads the head of a request only
    b"..."             sends these bytes
    Drip(b"...", s)    sends them one by one, `s` seconds apart
    Reset(), Close()   ends the connection with a reset, or properly
    Hang()             does nothing until the server is closed
    Again()            goes back to the first step
    a function         is called with the socket
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import gevent
from gevent import socket

TIMEOUT = 10.0


class Request:
    """Reads a whole request."""


class Head:
    """Reads the head of a request."""


class Reset:
    """Resets the connection."""


class Close:
    """Closes the connection."""


class Hang:
    """Does nothing any more."""


class Again:
    """Starts the script again."""


@dataclass
class Drip:
    """Sends byte by byte."""

    data: bytes
    seconds: float = 0.01


Script = list[Any]


@dataclass
class Seen:
    """A request as it came."""

    head: bytes
    content: bytes = b""
    raw: bytes = b""
    conn: int = 0
    trailers: bytes = b""

    @property
    def line(self) -> str:
        return self.head.split(b"\r\n", 1)[0].decode("latin-1")

    @property
    def fields(self) -> list[tuple[str, str]]:
        pairs = [line.partition(b":") for line in self.head.split(b"\r\n")[1:] if line]
        return [(name.decode().lower(), value.strip().decode("latin-1")) for name, _, value in pairs]

    def header(self, name: str) -> str | None:
        values = [value for key, value in self.fields if key == name]
        return ", ".join(values) if values else None


@dataclass
class BadServer:
    """The server. `requests` are those that were read; `conns` counts connections, `ended` those that peers ended."""

    scripts: list[Script]
    requests: list[Seen] = field(default_factory=list)
    conns: int = 0
    ended: int = 0
    sock: Any = None
    _tasks: list[Any] = field(default_factory=list)
    _socks: list[Any] = field(default_factory=list)

    @property
    def address(self) -> str:
        host, port = self.sock.getsockname()
        return f"{host}:{port}"

    def start(self) -> None:
        self.sock = socket.socket()
        self.sock.bind(("127.0.0.1", 0))
        self.sock.listen(64)
        self._tasks.append(gevent.spawn(self._accept))

    def close(self) -> None:
        gevent.killall(self._tasks)
        for sock in [self.sock, *self._socks]:
            sock.close()

    def _accept(self) -> None:
        while True:
            sock, _ = self.sock.accept()
            sock.settimeout(TIMEOUT)
            self._socks.append(sock)
            script = self.scripts[min(self.conns, len(self.scripts) - 1)]
            self.conns += 1
            self._tasks.append(gevent.spawn(self._run, sock, script, self.conns))

    def _run(self, sock: Any, script: Script, conn: int) -> None:
        reader = _Reader(sock)
        at = 0
        try:
            while at < len(script):
                step = script[at]
                at += 1
                if isinstance(step, bytes):
                    sock.sendall(step)
                elif isinstance(step, Drip):
                    for index in range(len(step.data)):
                        sock.sendall(step.data[index : index + 1])
                        gevent.sleep(step.seconds)
                elif isinstance(step, Request | Head):
                    seen = reader.request(whole=isinstance(step, Request))
                    if seen is None:
                        self.ended += 1
                        return
                    seen.conn = conn
                    self.requests.append(seen)
                elif isinstance(step, Again):
                    at = 0
                elif isinstance(step, Hang):
                    self._hang(sock)
                    return
                elif isinstance(step, Reset):
                    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                    return
                elif isinstance(step, Close):
                    return
                else:
                    step(sock)
        except OSError:
            self.ended += 1
        finally:
            sock.close()

    def _hang(self, sock: Any) -> None:
        sock.settimeout(None)
        while sock.recv(65536):
            pass
        self.ended += 1


class _Reader:
    def __init__(self, sock: Any) -> None:
        self.sock = sock
        self.buffer = b""

    def _more(self) -> bool:
        data = self.sock.recv(65536)
        self.buffer += data
        return bool(data)

    def _until(self, mark: bytes) -> bytes | None:
        while mark not in self.buffer:
            if not self._more():
                return None
        at = self.buffer.index(mark) + len(mark)
        data, self.buffer = self.buffer[:at], self.buffer[at:]
        return data

    def _line(self) -> bytes:
        line = self._until(b"\r\n")
        if line is None:
            raise ConnectionAbortedError
        return line

    def _exactly(self, size: int) -> bytes:
        while len(self.buffer) < size:
            if not self._more():
                raise ConnectionAbortedError
        data, self.buffer = self.buffer[:size], self.buffer[size:]
        return data

    def request(self, whole: bool = True) -> Seen | None:
        head = self._until(b"\r\n\r\n")
        if head is None:
            return None
        seen = Seen(head[:-4], raw=head)
        if not whole:
            return seen
        size = seen.header("content-length")
        if seen.header("transfer-encoding"):
            while size := int(self._line(), 16):
                seen.content += self._exactly(size)
                self._exactly(2)
            while (line := self._line()) != b"\r\n":
                seen.trailers += line
        elif size is not None:
            seen.content = self._exactly(int(size))
        seen.raw += seen.content
        return seen


def ok(content: bytes = b"hello", *fields: str, status: str = "200 OK") -> bytes:
    """A good response."""
    lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(content)}", *fields, "", ""]
    return "\r\n".join(lines).encode("latin-1") + content


def answering(content: bytes = b"hello", *fields: str, status: str = "200 OK") -> Script:
    """Answers every request alike, and keeps the connection."""
    return [Request(), ok(content, *fields, status=status), Again()]


@contextmanager
def bad_server(*scripts: Script) -> Iterator[BadServer]:
    """A running server of these scripts."""
    server = BadServer(list(scripts))
    server.start()
    try:
        yield server
    finally:
        server.close()


def dead_address() -> str:
    """An address where nobody listens."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{sock.getsockname()[1]}"


Handler = Callable[[Any], None]
