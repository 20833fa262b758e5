"""Which webapp for which Host: exact names, then the longest `*.suffix`, then the longest `prefix.*`, then `*`."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from hemi.web.uri import split_authority

if TYPE_CHECKING:
    from collections.abc import Iterable

    from hemi.web.webapp import Webapp


class Site(NamedTuple):
    """What a Host field comes to: the webapp (None when nobody serves the name), the authority, name and port."""

    webapp: Webapp | None
    authority: str
    hostname: str
    port: int


class HostTable:
    """Finds webapps by host name, whatever the port."""

    def __init__(self, webapps: Iterable[Webapp]) -> None:
        self._exact: dict[str, Webapp] = {}
        self._suffixes: list[tuple[str, Webapp]] = []
        self._prefixes: list[tuple[str, Webapp]] = []
        self.default: Webapp | None = None
        for webapp in webapps:
            for pattern in webapp.hostnames:
                self._add(pattern, webapp)
        self._suffixes.sort(key=lambda entry: -len(entry[0]))
        self._prefixes.sort(key=lambda entry: -len(entry[0]))

    def _add(self, pattern: str, webapp: Webapp) -> None:
        if pattern == "*":
            self.default = self.default or webapp
        elif pattern.startswith("*."):
            self._suffixes.append((pattern[1:], webapp))
        elif pattern.endswith(".*"):
            self._prefixes.append((pattern[:-1], webapp))
        else:
            self._exact.setdefault(pattern, webapp)

    def find(self, hostname: str) -> Webapp | None:
        """The webapp for a host name in lower case; "" for requests that name none (HTTP/1.0)."""
        webapp = self._exact.get(hostname)
        if webapp is not None:
            return webapp
        for suffix, webapp in self._suffixes:
            if hostname.endswith(suffix) and len(hostname) > len(suffix):
                return webapp
        for prefix, webapp in self._prefixes:
            if hostname.startswith(prefix) and len(hostname) > len(prefix):
                return webapp
        return self.default

    def site(self, host: bytes, default_port: int) -> Site:
        """What a Host field comes to. Raises BadTarget when it is no authority."""
        if not host:
            return Site(self.find(""), "", "", default_port)
        hostname, port = split_authority(host)
        authority = host.decode("latin-1").lower().removesuffix(":")
        return Site(self.find(hostname), authority, hostname, port or default_port)
