"""Nodes and clients of datagrams."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import gevent

TIMEOUT = 30.0

Answer = Callable[[bytes], "list[bytes] | bytes"]


class Node:
    """A node on 127.0.0.1 (or at a path) that answers each datagram; echoes by default. `got` has what came."""

    def __init__(self, answer: Answer | None = None, port: int = 0, path: str = "") -> None:
        self.answer = answer or (lambda data: data)
        self.path = path
        self.port = port
        self.got: list[tuple[bytes, Any]] = []
        self.start()

    def start(self) -> None:
        """Listens, at the same port as before."""
        self.sock = socket.socket(socket.AF_UNIX if self.path else socket.AF_INET, socket.SOCK_DGRAM)
        self.sock.bind(self.path or ("127.0.0.1", self.port))
        if not self.path:
            self.port = self.sock.getsockname()[1]
        self.task = gevent.spawn(self._serve)

    @property
    def address(self) -> str:
        return self.path or f"127.0.0.1:{self.port}"

    def _serve(self) -> None:
        while True:
            data, peer = self.sock.recvfrom(65536)
            self.got.append((data, peer))
            answers = self.answer(data)
            for each in [answers] if isinstance(answers, bytes) else answers:
                self.sock.sendto(each, peer)

    def stop(self) -> None:
        """Listens no more: who sends gets an ICMP error."""
        self.task.kill()
        self.sock.close()


def closed_port() -> int:
    """A port of UDP that nobody has."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


class Client:
    """A client of one address."""

    def __init__(self, address: str, source: str = "127.0.0.1") -> None:
        host, _, port = address.rpartition(":")
        self.to: Any = (host.strip("[]"), int(port))
        family = socket.AF_INET6 if ":" in self.to[0] else socket.AF_INET
        self.sock = socket.socket(family, socket.SOCK_DGRAM)
        if family == socket.AF_INET:
            self.sock.bind((source, 0))
        self.sock.settimeout(TIMEOUT)

    @property
    def port(self) -> int:
        return int(self.sock.getsockname()[1])

    def send(self, data: bytes) -> None:
        self.sock.sendto(data, self.to)

    def receive(self) -> bytes:
        """The next datagram, which must come from whom was asked."""
        data, peer = self.sock.recvfrom(70000)
        assert peer[:2] == self.to, peer
        return data

    def ask(self, data: bytes = b"hello") -> bytes:
        """Sends, and returns the answer."""
        self.send(data)
        return self.receive()

    def hears_nothing(self, seconds: float = 0.05) -> bool:
        """True when nothing comes for a moment. What is waited for is something that must not happen."""
        self.sock.settimeout(seconds)
        try:
            self.sock.recvfrom(70000)
        except TimeoutError:
            return True
        finally:
            self.sock.settimeout(TIMEOUT)
        return False

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self.sock.close()


@contextmanager
def nodes(*answers: Answer | None) -> Iterator[list[Node]]:
    """Nodes, stopped at the end."""
    found = [Node(answer) for answer in answers]
    try:
        yield found
    finally:
        for node in found:
            node.stop()


def router(
    cases: str, more: str = "", backends: str = "", address: str = '"127.0.0.1:0"', before: str = ""
) -> str:
    """The configuration of a router "front" with these lines of cases and backends."""
    return (
        f"{before}backends:\n{backends}routers:\n  front:\n    type: udpx_router\n    address: {address}\n"
        f"{more}    cases:\n{cases}"
    )


def backend(name: str, *addresses: str, more: str = "") -> str:
    """A line of backends."""
    listed = ", ".join(f"{{address: '{address}'}}" for address in addresses)
    return f"  {name}: {{type: udpx_backend, nodes: [{listed}]{', ' + more if more else ''}}}\n"


def to(name: str, more: str = "", condition: str = "", before: str = "") -> str:
    """A line of cases: to a backend."""
    chosen = f"if: {condition!r}, " if condition else ""
    proxy = f"{{udpx_proxy: {{to_backend: {name}{', ' + more if more else ''}}}}}"
    return f"      - {{{chosen}dealets: [{before}{proxy}]}}\n"
