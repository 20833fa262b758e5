"""The head of the request that goes to a node, made of the parsed request.

What depends on the fields alone, and what depends on the client alone, is remembered: the two together are nearly
the whole head, and clients say the same again and again.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from hemi.patterns import Pattern
from hemi.web.errors import HTTPError
from hemi.web.h1.answer import tokens_of
from hemi.web.proxy.names import CLAIMS, CONNECTION, FRAMING
from hemi.web.uri import quote_path

if TYPE_CHECKING:
    from hemi.web.request import Request

__all__ = ["Mode", "RequestHead", "RequestRules", "Value", "sendable"]

KNOWN_LINES = 2048
KNOWN_SIZE = 1024
KNOWN_MIDDLES = 2048
KNOWN_CLIENTS = 4096
"""How many request lines of up to so many bytes, fields and clients a proxy remembers."""

Mode = Literal["append", "set", "off"]
"""Of fields that tell of the client: go on with a trusted proxy's, say only what is seen here, leave them alone."""

Value = tuple[bytes, Callable[[Any], str]]
"""The name of a field, and what it gets."""

_TARGET = re.compile(rb"(?:/[\x21\x22\x24-\x7e\x80-\xff]*|\*)")
_VALUE = re.compile(rb"[\t\x20-\x7e\x80-\xff]*")


class RequestRules(NamedTuple):
    """What a configuration says about requests to nodes."""

    host: Callable[[Any], str] | None = None
    x_forwarded: Mode = "append"
    forwarded: Mode = "off"
    x_real_ip: bool = False
    via: bytes = b"gorox"
    strip_prefix: bytes = b""
    add_prefix: bytes = b""
    pattern: Pattern | None = None
    replacement: str = ""
    deletes: frozenset[bytes] = frozenset()
    sets: tuple[Value, ...] = ()
    adds: tuple[Value, ...] = ()


class RequestHead:
    """Makes heads by rules."""

    def __init__(self, rules: RequestRules) -> None:
        self.rules = rules
        self._rewrites = bool(rules.strip_prefix or rules.add_prefix or rules.pattern)
        own = rules.deletes | {name for name, _ in rules.sets}
        self._dropped = CONNECTION | FRAMING | own | {b"host", b"expect", b"proxy"}
        self._guarded = own
        if rules.x_forwarded != "off":
            self._guarded |= CLAIMS - {b"forwarded"}
        if rules.x_forwarded != "off" or rules.forwarded != "off":
            self._guarded |= {b"forwarded"}  # what is not said anew, nobody vouches for
        # Values that depend on nothing are remembered with the rest of the head.
        self._has_own_host = rules.host is not None and _varies(rules.host)
        self._varies = any(_varies(value) for _, value in (*rules.sets, *rules.adds))
        self._lines: dict[tuple[Any, ...], bytes] = {}
        self._middles: dict[tuple[Any, ...], tuple[Sequence[tuple[bytes, bytes]], bytes]] = {}
        self._clients: dict[tuple[Any, ...], bytes] = {}

    def __repr__(self) -> str:
        return f"<RequestHead lines={len(self._lines)} middles={len(self._middles)}>"

    def make(self, req: Request, size: int = 0, upgrade: bytes = b"", expect: bool = False) -> bytes:
        """The head of a request whose content has `size` bytes, -1 when it is chunked. Raises HTTPError 400."""
        method = req.method
        what = (method, req.raw_path, req.path, req.query_string)
        line = self._lines.get(what) or self._make_line(what)
        conn: Any = req.stream.conn
        # All that is said of the client follows from these: a proxy's word about it is among the fields.
        fields = req.fields
        key = (
            id(fields), conn.peer.host, conn.trusted, req.src_host, req.version, req.scheme, req.authority, req.port,
        )  # fmt: skip
        known = self._middles.get(key)
        middle = known[1] if known is not None and known[0] is fields else self._make_middle(req, key)
        if self._has_own_host:
            middle = self._host_line(req) + middle
        if self._varies:
            middle += self._more(req)
        if size:
            middle += b"content-length: %d\r\n" % size if size > 0 else b"transfer-encoding: chunked\r\n"
            if expect:
                middle += b"expect: 100-continue\r\n"
        elif method in _WITH_CONTENT or b"content-length" in req.index:
            middle += b"content-length: 0\r\n"
        if upgrade:
            middle += b"connection: upgrade\r\nupgrade: %b\r\n" % upgrade
        return b"%b%b\r\n" % (line, middle)

    def _make_line(self, what: tuple[Any, ...]) -> bytes:
        """The request line; remembered unless it is long."""
        method, raw_path, path, query = what
        line = b"%b %b HTTP/1.1\r\n" % (method.encode(), self.target(raw_path, path, query))
        if len(line) <= KNOWN_SIZE:
            if len(self._lines) >= KNOWN_LINES:
                self._lines.clear()
            self._lines[what] = line
        return line

    def _make_middle(self, req: Request, key: tuple[Any, ...]) -> bytes:
        """The lines of the fields; remembered for fields that are shared by requests."""
        fields = req.fields
        middle = self._client(req) + self._make_block(fields)
        if self.rules.host is not None and not self._has_own_host:
            middle = self._host_line(req) + middle
        if not self._varies:
            middle += self._more(req)
        if fields.__class__ is tuple:
            if len(self._middles) >= KNOWN_MIDDLES:
                self._middles.clear()
            self._middles[key] = (fields, middle)
        return middle

    # The target

    def target(self, raw: bytes, path: str, query: str) -> bytes:
        """The target that the node gets. Raises HTTPError 400 when it can't be one."""
        if path == "*":
            return b"*"
        # The path as it came, but for dot segments, however they are written: conditions saw it without them, and
        # the node must not see another path than they did.
        if (b"/." in raw or b"%" in raw or b"\\" in raw) and _DOTS.search(raw) is not None:
            raw = quote_path(path).encode("latin-1")
        if self._rewrites:
            raw, query = self._rewrite(raw, path, query)
        target = b"%b?%b" % (raw, query.encode("utf-8", "surrogateescape")) if query else raw
        if _TARGET.fullmatch(target) is None:
            raise HTTPError(400, "The target cannot be passed on.")
        return target

    def _rewrite(self, raw: bytes, path: str, query: str) -> tuple[bytes, str]:
        rules = self.rules
        strip = rules.strip_prefix
        if strip:
            if not _below(raw, strip):
                raw = quote_path(path).encode("latin-1")  # "/%61pi" is "/api", too
            if _below(raw, strip):
                raw = b"/" + raw[len(strip) :].lstrip(b"/")
        if rules.add_prefix:
            raw = rules.add_prefix + raw
        if rules.pattern is not None:
            text = raw.decode("latin-1") + (f"?{query}" if query else "")
            rewritten, _, query = rules.pattern.sub(rules.replacement, text).partition("?")
            raw = rewritten.encode("latin-1", "replace")
        return raw, query

    # Fields

    def _make_block(self, fields: Sequence[tuple[bytes, bytes]]) -> bytes:
        """The lines of the fields that are passed on."""
        dropped = self._dropped | tokens_of(fields, b"connection")
        guarded = self._guarded
        lines = [
            b"%b: %b\r\n" % (name, value)
            for name, value in fields
            if name not in dropped
            and name not in guarded
            and not (
                b"_" in name and name.replace(b"_", b"-") in guarded
            )  # WSGI and CGI cannot tell them apart
        ]
        if b"trailers" in tokens_of(fields, b"te"):
            lines.append(b"te: trailers\r\nconnection: te\r\n")
        return b"".join(lines)

    def _client(self, req: Request) -> bytes:
        """The lines that tell of the client and of the way so far; remembered for requests whose fields change."""
        conn: Any = req.stream.conn
        peer = conn.peer.host
        key: tuple[Any, ...] = (peer, req.version, req.scheme, req.authority, req.port)
        if conn.trusted:
            index = req.index
            key += (req.src_host, *[index.get(name) for name in _KEPT])
        return self._clients.get(key) or self._make_client(key)

    def _make_client(self, key: tuple[Any, ...]) -> bytes:
        """The lines that tell of the client and of the way so far."""
        peer, version, scheme, authority, port, *rest = key
        kept = dict(zip(_KEPT, rest[1:], strict=True)) if rest else {}
        rules, lines = self.rules, []
        if rules.host is None:
            lines.append(b"host: " + sendable(authority))
        address = "" if peer.startswith("unix:") else peer
        if rules.x_forwarded != "off":
            before = kept if rules.x_forwarded == "append" else {}
            chain = [one for one in (before.get(b"x-forwarded-for"), address.encode()) if one]
            if chain:
                lines.append(b"x-forwarded-for: " + b", ".join(chain))
            lines.append(b"x-forwarded-proto: " + scheme.encode())
            name = before.get(b"x-forwarded-host") or sendable(authority)
            if name:
                lines.append(b"x-forwarded-host: " + name)
            lines.append(b"x-forwarded-port: " + (before.get(b"x-forwarded-port") or b"%d" % port))
        if rules.x_real_ip and (rest or address):
            lines.append(b"x-real-ip: " + (rest[0] if rest else address).encode())
        if rules.forwarded != "off":
            ours = _forwarded(address, scheme, authority)
            before_us = kept.get(b"forwarded") if rules.forwarded == "append" else None
            lines.append(b"forwarded: " + (before_us + b", " + ours if before_us else ours))
        if rules.via:
            lines.append(
                b"via: %s %b" % (b"1.0" if version == 10 else b"%d.%d" % divmod(version, 10), rules.via)
            )
        block = b"".join([line + b"\r\n" for line in lines])
        if len(self._clients) >= KNOWN_CLIENTS:
            self._clients.clear()
        self._clients[key] = block
        return block

    def _host_line(self, req: Request) -> bytes:
        host = self.rules.host
        return b"host: %b\r\n" % sendable(host(req)) if host is not None else b""

    def _more(self, req: Request) -> bytes:
        """The lines of the fields that a configuration sets and adds; what comes to nothing is left out."""
        values = [(name, value(req)) for name, value in (*self.rules.sets, *self.rules.adds)]
        return b"".join([b"%b: %b\r\n" % (name, sendable(text)) for name, text in values if text])


_KEPT = (b"x-forwarded-for", b"x-forwarded-host", b"x-forwarded-port", b"forwarded")
_WITH_CONTENT = frozenset({"POST", "PUT", "PATCH"})
_DOTS = re.compile(rb"(?:/|%2f|\\|%5c)(?:\.|%2e)", re.IGNORECASE)


def _varies(value: Callable[[Any], str]) -> bool:
    """Whether a value depends on the request; templates know."""
    return getattr(value, "constant", None) is None


def _below(raw: bytes, prefix: bytes) -> bool:
    return raw.startswith(prefix) and (
        prefix.endswith(b"/") or raw[len(prefix) : len(prefix) + 1] in (b"", b"/")
    )


def sendable(text: str) -> bytes:
    """A value as bytes; what could end a line is left out."""
    data = text.encode("utf-8", "surrogateescape")
    if _VALUE.fullmatch(data) is None:
        data = bytes(one for one in data if one == 9 or 32 <= one != 127)
    return data.strip(b" \t")


def _forwarded(address: str, scheme: str, authority: str) -> bytes:
    """An element of Forwarded (RFC 7239 §4)."""
    if not address:
        node = "unknown"
    elif isinstance(ipaddress.ip_address(address), ipaddress.IPv6Address):
        node = f'"[{address}]"'
    else:
        node = address
    host = sendable(authority).decode("latin-1").replace("\\", "").replace('"', "")
    quoted = host if re.fullmatch(r"[A-Za-z0-9._-]+", host) else f'"{host}"'
    return f"for={node}{f';host={quoted}' if host else ''};proto={scheme}".encode("latin-1")
