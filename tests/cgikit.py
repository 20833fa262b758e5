"""Fake servers that speak FastCGI, SCGI or uwsgi as a test scripts it, and sites in front of them."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from struct import pack
from typing import Any

from gevent.server import StreamServer

import hemi.builtin  # noqa: F401  registers its components
from hemi.library import fcgi
from tests.webkit import Answer, Site, config, running

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


class Fake:
    """A server that does to each connection what `handle(sock)` says. `accepted` counts connections."""

    def __init__(self, handle: Callable[[Any], None]) -> None:
        self.handle = handle
        self.accepted = 0
        self.asked: list[Asked] = []
        self.open: set[Any] = set()
        self.server = StreamServer(("127.0.0.1", 0), self._serve)
        self.server.start()

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.server.server_port}"

    def _serve(self, sock: Any, _: Any) -> None:
        self.accepted += 1
        self.open.add(sock)
        try:
            self.handle(sock)
        except (OSError, EOFError):
            pass
        finally:
            self.open.discard(sock)
            sock.close()

    def stop(self) -> None:
        for sock in list(self.open):
            try:
                sock.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass
        self.server.stop(timeout=0)


@contextmanager
def fake(handle: Callable[[Any], None]) -> Iterator[Fake]:
    """A fake server while the test runs."""
    server = Fake(handle)
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
