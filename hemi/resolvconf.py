"""The files that say how names are resolved: the hosts file and resolv.conf(5).

Belongs here: reading them, again when they have changed, and telling addresses from names. What is not understood is
skipped, as the C library does: these files are the system's, not ours.
"""

from __future__ import annotations

import os
import re
import socket
from time import monotonic
from typing import NamedTuple

__all__ = ["Hosts", "Settings", "literal_family", "parse_hosts", "parse_server", "parse_settings"]

Server = tuple[str, int]  # address and port
LOOK = 1.0  # seconds between looks at the hosts file and resolv.conf


class Hosts:
    """The hosts file, read again when it has changed. A file that cannot be read is an empty one."""

    def __init__(self, path: str) -> None:
        self.path = path
        self._look = 0.0
        self._signature: tuple[int, int, int] | None = None
        self._table: dict[str, list[str]] = {}

    def find(self, name: str) -> list[str]:
        """The addresses of a name in lower case."""
        now = monotonic()
        if now >= self._look:
            self._look = now + LOOK
            self._refresh()
        return self._table.get(name, [])

    def _refresh(self) -> None:
        try:
            status = os.stat(self.path)
            signature = (status.st_ino, status.st_size, status.st_mtime_ns)
            if signature != self._signature:
                with open(self.path, encoding="utf-8", errors="replace") as file:
                    self._table = parse_hosts(file.read(16 << 20))
                self._signature = signature
        except OSError:
            self._table, self._signature = {}, None


def parse_hosts(text: str) -> dict[str, list[str]]:
    """The table of a hosts file; what is no address is skipped."""
    table: dict[str, list[str]] = {}
    for line in text.splitlines():
        words = line.partition("#")[0].split()
        if len(words) > 1 and literal_family(words[0]) is not None:
            for name in words[1:]:
                addresses = table.setdefault(name.lower().rstrip("."), [])
                if words[0] not in addresses:
                    addresses.append(words[0])
    return table


class Settings(NamedTuple):
    """What resolv.conf(5) says, as far as it matters here."""

    servers: tuple[Server, ...] = (("127.0.0.1", 53),)
    search: tuple[str, ...] = ()
    ndots: int = 1
    timeout: float = 2.0  # seconds an attempt at one server
    attempts: int = 2  # rounds


def parse_settings(text: str) -> Settings:
    """Settings from the text of a resolv.conf; what is not understood is skipped."""
    servers: list[Server] = []
    search: tuple[str, ...] = ()
    options: dict[str, int] = {}
    for line in text.splitlines():
        words = line.partition("#")[0].partition(";")[0].split()
        if len(words) < 2:
            continue
        if words[0] == "nameserver" and literal_family(words[1]) is not None:
            servers.append((words[1], 53))
        elif words[0] in ("search", "domain"):
            search = tuple(word.lower().strip(".") for word in words[1:7] if word.strip("."))
        elif words[0] == "options":
            for word in words[1:]:
                key, _, value = word.partition(":")
                if value.isascii() and value.isdigit():
                    options[key] = int(value)
    return Settings(
        tuple(servers[:3]) or Settings().servers,
        search,
        min(options.get("ndots", 1), 15),
        float(min(max(options.get("timeout", 2), 1), 30)),
        min(max(options.get("attempts", 2), 1), 5),
    )


def literal_family(host: str) -> int | None:
    """AF_INET or AF_INET6 when `host` is an IP address (IPv6 with or without %zone), otherwise None."""
    if ":" in host:
        address, _, zone = host.partition("%")
        family: int = socket.AF_INET6
        if "%" in host and not zone:
            return None
    else:
        address, family = host, socket.AF_INET
    try:
        socket.inet_pton(family, address)
    except (OSError, ValueError):
        return None
    return family


def parse_server(text: str) -> Server | None:
    """The address in `1.2.3.4`, `1.2.3.4:53`, `::1`, `[::1]`, `[::1]:53`; None for anything else."""
    match = re.fullmatch(r"\[([^\]]+)\](?::([0-9]{1,5}))?|([^:\[\]]+):([0-9]{1,5})|([^\[\]]+)", text)
    if match is None:
        return None
    host, port = match[1] or match[3] or match[5], int(match[2] or match[4] or 53)
    return (host, port) if literal_family(host) is not None and 0 < port < 65536 else None
