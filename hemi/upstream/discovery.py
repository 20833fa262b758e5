"""Discovery: where the nodes of a backend come from, other than from its list.

A source is asked now and then what it knows, and answers with all the nodes, or with None when it knows
nothing new. When it fails, the nodes stay as they are.
"""

from __future__ import annotations

import os
import stat
from types import SimpleNamespace
from typing import Any, NamedTuple, Protocol, cast

from hemi.resolv import Service
from hemi.source import Dirs, Given
from hemi.values import Addr, Context, Wrong
from hemi.values.net import AddressKind

__all__ = ["DiscoveryError", "FileSource", "Found", "NameSource", "ServiceSource", "Source", "parse_nodes"]

MAX_FILE = 1 << 20
"""Bytes of a file of nodes."""

MAX_NODES = 10_000

_RANGES = {"weight": (1, 1000), "tier": (0, 9), "max_conns": (0, 1 << 31)}


class DiscoveryError(Exception):
    """A source cannot tell, or tells nonsense."""


class Found(NamedTuple):
    """A node as a source tells of it."""

    address: Addr
    weight: int = 1
    tier: int = 0
    max_conns: int | None = None
    server_name: str = ""


class Source(Protocol):
    """What knows nodes. `name` tells it from others."""

    @property
    def name(self) -> str: ...

    def look(self) -> list[Found] | None:
        """All nodes, or None when nothing has changed. May wait. Raises DiscoveryError, and ResolveError."""


def parse_nodes(text: str, dirs: Dirs) -> list[Found]:
    """The nodes in the text of a file: one a line, `ADDRESS [weight=N] [tier=N] [max_conns=N]`; "#" begins a comment.

    Raises DiscoveryError, with the line's number.
    """
    nodes: dict[Addr, Found] = {}
    for number, line in enumerate(text.splitlines(), 1):
        words = line.partition("#")[0].split()
        if not words:
            continue
        try:
            options: dict[str, Any] = dict(map(_option, words[1:]))
            found = Found(_address(words[0], dirs), **options)
        except ValueError as error:
            raise DiscoveryError(f"line {number}: {error}") from None
        if found.address in nodes:
            raise DiscoveryError(f"line {number}: {found.address} is there twice")
        nodes[found.address] = found
    if len(nodes) > MAX_NODES:
        raise DiscoveryError(f"more than {MAX_NODES} nodes")
    return list(nodes.values())


def _address(text: str, dirs: Dirs) -> Addr:
    context = cast("Context", SimpleNamespace(dirs=dirs, scope=None))
    try:
        address: Addr = AddressKind().parse(Given(text), context)
    except Wrong as wrong:
        raise ValueError(f"the address {wrong.problems[0][1]}") from None
    if not address.path and not address.port:
        raise ValueError(f'the address must have a port, not "{text}"')
    return address


def _option(word: str) -> tuple[str, int]:
    name, equals, value = word.partition("=")
    if not equals or name not in _RANGES:
        raise ValueError(f'"{word}" must be {", ".join(f"{one}=N" for one in _RANGES)}')
    least, most = _RANGES[name]
    if not value.isascii() or not value.isdigit() or len(value) > 10 or not least <= int(value) <= most:
        raise ValueError(f'{name} must be {least} to {most}, not "{value}"')
    return name, int(value)


class FileSource:
    """A file of nodes, read again when it has changed. To be replaced by renaming a complete one into its place."""

    def __init__(self, path: str, dirs: Dirs) -> None:
        self.path = self.name = path
        self._dirs = dirs
        self._seen: tuple[int, int, int] | None = None

    def look(self) -> list[Found] | None:
        """Reads the file if it is another than last time."""
        try:
            status = os.stat(self.path)
            seen = (status.st_ino, status.st_mtime_ns, status.st_size)
            if seen == self._seen:
                return None
            if not stat.S_ISREG(status.st_mode):
                raise DiscoveryError(f'"{self.path}" is not a regular file')  # a FIFO would make us wait
            with open(self.path, encoding="utf-8") as file:
                text = file.read(MAX_FILE + 1)
        except (OSError, UnicodeDecodeError) as error:
            reason = getattr(error, "strerror", None) or str(error)
            raise DiscoveryError(f'"{self.path}" cannot be read: {reason.lower()}') from None
        if len(text) > MAX_FILE:
            raise DiscoveryError(f'"{self.path}" has more than {MAX_FILE} bytes')
        self._seen = seen  # nonsense is reported once, not every second
        try:
            return parse_nodes(text, self._dirs)
        except DiscoveryError as error:
            raise DiscoveryError(f'"{self.path}": {error}') from None


class _Resolves(Protocol):
    def lookup(self, host: str, *, timeout: float | None = None) -> list[str]: ...

    def lookup_srv(self, name: str, *, timeout: float | None = None) -> list[Service]: ...


class NameSource:
    """The addresses of a name, a node each. The resolver keeps to the TTL; asking it often costs nothing."""

    def __init__(self, address: Addr, resolv: _Resolves) -> None:
        self.name = str(address)
        self._address = address
        self._resolv = resolv
        self._known: list[Found] | None = None

    def look(self) -> list[Found] | None:
        """Asks for the addresses (A and AAAA)."""
        host, port, _ = self._address
        found = [Found(Addr(one, port), server_name=host) for one in sorted(self._resolv.lookup(host))]
        if found == self._known:
            return None
        self._known = found
        return found


class ServiceSource:
    """The services of a name (SRV, RFC 2782): priorities become tiers, weights weights."""

    def __init__(self, name: str, resolv: _Resolves) -> None:
        self.name = name
        self._resolv = resolv
        self._known: list[Found] | None = None

    def look(self) -> list[Found] | None:
        """Asks for the services."""
        services = self._resolv.lookup_srv(self.name)
        priorities = sorted({one.priority for one in services})
        nodes: dict[Addr, Found] = {}
        for one in sorted(services):
            address = Addr(one.target, one.port)
            # Weight 0 is a small chance among others, and all the same when all have it.
            weight = min(max(one.weight, 1), 1000)
            tier = min(priorities.index(one.priority), 9)
            nodes.setdefault(address, Found(address, weight, tier, server_name=one.target))
        found = list(nodes.values())
        if found == self._known:
            return None
        self._known = found
        return found


def sources_of(backend: Any) -> list[Source]:
    """The sources that a backend's configuration names."""
    sources: list[Source] = []
    if backend.nodes_file is not None:
        sources.append(FileSource(backend.nodes_file, backend.stage.dirs))
    if backend.nodes_name is not None:
        sources.append(NameSource(backend.nodes_name, backend.stage.resolv))
    if backend.nodes_service is not None:
        sources.append(ServiceSource(backend.nodes_service, backend.stage.resolv))
    return sources
