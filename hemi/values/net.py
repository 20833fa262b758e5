"""Kinds of values that name peers: addresses, host names, networks."""

from __future__ import annotations

import ipaddress
import os
import re
from typing import Any, NamedTuple

import idna

from hemi.source import Given
from hemi.values.base import Context, Kind, Wrong, spelled
from hemi.values.scalars import text_of

_MAX_UDS = 107  # bytes of a path in sockaddr_un, without the final NUL
_LABEL = re.compile(r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?")


class Addr(NamedTuple):
    """An address to listen on or to dial: host and port (TCP, UDP), or the path of a Unix domain socket.

    `host` is "" for every interface, and has no brackets; `path` starts with "@" in the abstract name space.
    """

    host: str = ""
    port: int = 0
    path: str = ""

    @property
    def is_uds(self) -> bool:
        return bool(self.path)

    @property
    def is_abstract(self) -> bool:
        return self.path.startswith("@")

    @property
    def sockaddr(self) -> str | tuple[str, int]:
        """What bind and connect take."""
        if self.path:
            return "\0" + self.path[1:] if self.path.startswith("@") else self.path
        return (self.host, self.port)

    def __str__(self) -> str:
        if self.path:
            return self.path
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


class AddressKind(Kind):
    """A TCP or UDP address, or a Unix domain socket."""

    noun = 'an address such as ":80", "127.0.0.1:80", "[::1]:80", "/path.sock" or "@abstract"'

    def parse(self, given: Given, context: Context) -> Addr:
        text = given.value
        if not isinstance(text, str) or not text or "\0" in text:
            self.refuse(given)
        if text.startswith("@"):
            return self._uds(text, given)
        if text.startswith(("/", "unix:")):
            path = text.removeprefix("unix:")
            if not path:
                self.refuse(given)
            return self._uds(os.path.normpath(os.path.join(context.dirs.top, path)), given)
        return self._inet(text, given)

    def _uds(self, path: str, given: Given) -> Addr:
        if len(path) < 2:
            self.refuse(given)
        if len(os.fsencode(path)) > _MAX_UDS:
            raise Wrong((given, f"must be a path of at most {_MAX_UDS} bytes, not {spelled(path)}"))
        return Addr(path=path)

    def _inet(self, text: str, given: Given) -> Addr:
        host, colon, port = text.rpartition(":")
        if not colon or not re.fullmatch("[0-9]{1,5}", port) or int(port) > 65535:
            self.refuse(given)
        if host.startswith("[") and host.endswith("]"):
            try:
                address = host[1:-1]
                ipaddress.IPv6Address(address)
            except ValueError:
                self.refuse(given)
            return Addr(address.lower(), int(port))
        if not host or host == "*":
            return Addr("", int(port))
        try:
            return Addr(to_ascii(host), int(port))
        except ValueError:
            self.refuse(given)

    def show(self, value: Addr) -> Any:
        return str(value)

    def schema(self) -> dict[str, Any]:
        return {"type": "string"}


def to_ascii(hostname: str) -> str:
    """A host name as it travels: lower case, IDNA A-labels (RFC 5891, UTS 46); raises ValueError."""
    name = hostname.lower()
    if not name.isascii():
        name = idna.encode(name, uts46=True).decode("ascii")  # IDNAError is a UnicodeError, thus a ValueError
    name = name.removesuffix(".")
    labels = name.split(".")
    if len(name) > 253 or not all(_LABEL.fullmatch(label) for label in labels):
        raise ValueError(f"not a host name: {hostname!r}")
    if labels[-1].isdigit():  # the last label of a name is never a number: this must be an IPv4 address
        ipaddress.IPv4Address(name)
    return name


class HostnameKind(Kind):
    """A host name or a pattern of host names."""

    noun = 'a host name such as "example.com", "*.example.com", "www.*" or "*"'

    def parse(self, given: Given, context: Context) -> str:
        text = given.value
        if not isinstance(text, str):
            self.refuse(given)
        try:
            return self._name(text)
        except ValueError:
            self.refuse(given)

    def _name(self, text: str) -> str:
        if text == "*":
            return text
        if text.startswith("*."):
            return "*." + to_ascii(text[2:])
        if text.endswith(".*"):
            return to_ascii(text[:-2] + ".example").removesuffix(".example") + ".*"
        if text.startswith("[") and text.endswith("]"):
            return f"[{ipaddress.IPv6Address(text[1:-1])}]"
        return to_ascii(text)

    def schema(self) -> dict[str, Any]:
        return {"type": "string"}


Net = ipaddress.IPv4Network | ipaddress.IPv6Network


class NetworkKind(Kind):
    noun = 'a network such as "10.0.0.0/8" or an address'

    def parse(self, given: Given, context: Context) -> Net:
        text = text_of(given, self)
        try:
            return ipaddress.ip_network(text)
        except ValueError:
            pass
        try:
            loose = ipaddress.ip_network(text, strict=False)
        except ValueError:
            self.refuse(given)
        raise Wrong(
            (
                given,
                f"must be a network such as {spelled(str(loose))}, not {spelled(text)} with host bits set",
            )
        )

    def show(self, value: Net) -> Any:
        return str(value.network_address if value.prefixlen == value.max_prefixlen else value)

    def schema(self) -> dict[str, Any]:
        return {"type": "string"}
