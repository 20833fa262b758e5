"""Fake servers that speak FastCGI, SCGI or uwsgi as a test scripts it, and sites in front of them."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from struct import pack
from typing import Any

import pytest

import hemi.builtin  # noqa: F401  registers its components
from hemi.library import fcgi
from tests.peer import Peer
from tests.webkit import Answer, Malformed, Site, config, running, until

END = pack(">BBHHBx", 1, fcgi.END_REQUEST, 1, 8, 0) + bytes(8)


def record(kind: int, data: bytes, request: int = 1, padding: int = 0, version: int = 1) -> bytes:
    """A FastCGI record."""
    return pack(">BBHHBx", version, kind, request, len(data), padding) + data + b"\0" * padding


def out(data: bytes) -> bytes:
    """What goes to stdout."""
    return fcgi._records(fcgi.STDOUT, data)


def plain(content: bytes, head: bytes = b"Content-Type: text/plain\r\n") -> bytes:
    """A whole answer of an application."""
    return out(head + b"\r\n" + content) + END


class Asked:
    """A FastCGI request as it came."""

    def __init__(self) -> None:
        self.flags = 0
        self.block = b""
        self.content = b""
        self.records: list[int] = []

    @property
    def variables(self) -> dict[str, str]:
        pairs, block, at = {}, self.block, 0
        while at < len(block):
            sizes = []
            for _ in range(2):
                if block[at] < 128:
                    sizes.append(block[at])
                    at += 1
                else:
                    sizes.append(int.from_bytes(block[at : at + 4], "big") & 0x7FFFFFFF)
                    at += 4
            name = block[at : at + sizes[0]].decode()
            at += sizes[0]
            pairs[name] = block[at : at + sizes[1]].decode("latin-1")
            at += sizes[1]
        return pairs


def exactly(sock: Any, size: int) -> bytes:
    """So many bytes; raises EOFError when the other side ends before."""
    data = b""
    while len(data) < size:
        piece = sock.recv(size - len(data))
        if not piece:
            raise EOFError
        data += piece
    return data


def read_request(sock: Any, until: int = fcgi.STDIN) -> Asked:
    """A FastCGI request, to the empty record of a kind."""
    asked = Asked()
    while True:
        _, kind, _, size, padding = fcgi._HEAD.unpack(exactly(sock, 8))
        data = exactly(sock, size + padding)[:size]
        asked.records.append(kind)
        if kind == fcgi.BEGIN_REQUEST:
            asked.flags = data[2]
        elif kind == fcgi.PARAMS:
            asked.block += data
        elif kind == fcgi.STDIN:
            asked.content += data
        if kind == until and not data:
            return asked


class Fake(Peer):
    """A server that does to each connection what `handle(sock)` says. `asked` is for what it was asked."""

    def __init__(self, handle: Callable[[Any], None], context: ssl.SSLContext | None = None) -> None:
        super().__init__(handle, context)
        self.asked: list[Asked] = []


@contextmanager
def fake(handle: Callable[[Any], None], context: ssl.SSLContext | None = None) -> Iterator[Fake]:
    """A fake server while the test runs, over TLS when there is a context."""
    server = Fake(handle, context)
    try:
        yield server
    finally:
        server.stop()


@contextmanager
def answering(answer: bytes | Callable[[Asked], bytes]) -> Iterator[Fake]:
    """A FastCGI server that answers every request so, and keeps connections that it should keep."""

    def handle(sock: Any) -> None:
        while True:
            asked = read_request(sock)
            server.asked.append(asked)
            sock.sendall(answer(asked) if callable(answer) else answer)
            if not asked.flags & 1:
                return

    with fake(handle) as server:
        yield server


@contextmanager
def site(
    protocol: str,
    *addresses: str,
    proxy: dict[str, Any] | None = None,
    backend: dict[str, Any] | None = None,
    rules: list[dict[str, Any]] | None = None,
    folder: str | None = None,
    webapp: dict[str, Any] | None = None,
) -> Iterator[Site]:
    """A site in front of such servers; `rules` come first."""
    if protocol == "fcgi":
        proxy = {"web_root": "/srv/app", **(proxy or {})}
    nodes = [{"address": address} for address in addresses]
    mapping = config(
        rules=[
            *(rules or []),
            {"handlets": [{f"{protocol}_proxy": {"to_backend": "back", **(proxy or {})}}]},
        ],
        stage={"backends": {"back": {"type": f"{protocol}_backend", "nodes": nodes, **(backend or {})}}},
        webapp=webapp,
    )
    with running(mapping, folder) as running_site:
        yield running_site


def ask(
    site: Site, target: str = "/a.php", method: str = "GET", content: Any = None, **fields: str
) -> Answer:
    """One exchange on a connection of its own."""
    with site.connect() as client:
        client.request(
            method, target, {name.replace("_", "-"): value for name, value in fields.items()}, content
        )
        return client.answer(method)


def problems(site: Site, protocol: str = "fcgi") -> list[str]:
    """What the error log has at the level error."""
    return [entry.message for entry in site.log.of("error", f"{protocol}_proxy")]


PLAIN_FAULTS = [
    (b"", 502, "without a head"),
    (b"Content-Type: a/b\r\n", 502, "in the middle of its head"),
    (b"garbage\n\n", 502, "no field"),
    (b"\r\nhello", 502, "its head is empty"),
    (b"X-A: a\rb\n\n", 502, "control characters"),
    (b"X-A: " + b"a" * 70_000, 502, "larger than 65536"),
    (b"X-A: a\n" * 600 + b"\n", 502, "more than 500 fields"),
    (b"Status: okay\n\n", 502, "the Status"),
    (b"Status: 100\n\n", 502, "status 100"),
    (b"Content-Length: 1\nContent-Length: 2\n\na", 502, "Content-Length"),
    (b"Content-Length: -1\n\na", 502, "Content-Length"),
    (b"Location: /../../x\n\n", 502, "Location"),
    (b"Content-Length: 5\n\nhel", None, "2 bytes of its content are missing"),
    (b"Content-Type: a/b\n\nhello", 200, ""),
    (b"Content-Length: 5\n\nhello world", 200, ""),
    (b"HTTP/1.1 200 OK\r\nContent-Type: a/b\r\nTransfer-Encoding: chunked\r\n\r\nhello", 200, ""),
]
"""Answers of servers whose answers end with the connection: what they are, the status, what the log says."""


def check_fault(
    protocol: str, read: Callable[[Any], Any], answer: bytes, status: int | None, reason: str
) -> None:
    """One such answer: what the client gets, what is logged, what is noted at the node."""

    def handle(sock: Any) -> None:
        read(sock)
        sock.sendall(answer)

    with fake(handle) as server, site(protocol, server.address, proxy={"max_retries": 0}) as it:
        if status is None:  # the head has gone out
            with pytest.raises((Malformed, ConnectionResetError)):
                ask(it)
        else:
            found = ask(it)
            assert found.status == status
            if status == 200:
                assert found.content == b"hello"
        if reason:
            [problem] = problems(it, protocol)
            assert reason in problem and f"node {server.address}: " in problem
        node = it.stage.members["backends"]["back"].roster.nodes[0]
        assert (node.failures, node.in_flight) == (1 if reason else 0, 0) and not node.pool.idle


def check_waits(protocol: str, read: Callable[[Any], Any]) -> None:
    """Silence before the head and within the content, a reset, nobody there, and clients that leave."""
    closed: list[bool] = []

    def hang(sock: Any) -> None:
        read(sock)
        closed.append(sock.recv(1) == b"")

    def pause(sock: Any) -> None:
        read(sock)
        sock.sendall(b"Content-Type: a/b\n\nhel")
        closed.append(sock.recv(1) == b"")

    def reset(sock: Any) -> None:
        sock.recv(1)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, pack("ii", 1, 0))

    with fake(hang) as server, site(protocol, server.address, proxy={"head_timeout": "200ms"}) as it:
        assert ask(it).status == 504
        assert "head: " in problems(it, protocol)[0]
    with fake(pause) as server, site(protocol, server.address, proxy={"read_timeout": "200ms"}) as it:
        with pytest.raises((Malformed, ConnectionResetError)):
            ask(it)
        assert "content: " in problems(it, protocol)[0]
    with fake(reset) as server, site(protocol, server.address, proxy={"max_retries": 0}) as it:
        assert ask(it).status == 502
    with site(protocol, server.address) as it:  # it has gone
        assert ask(it).status == 502
        assert "connect: " in problems(it, protocol)[0]
    closed.clear()
    with fake(hang) as server, site(protocol, server.address) as it:
        with it.connect() as client:
            client.request("GET", "/")
            until(lambda: server.open)
        until(lambda: closed)
        until(lambda: it.access)
        assert it.access[0].status == 499 and not problems(it, protocol)
