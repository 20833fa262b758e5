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

__all__ = ["Mode", "RequestHead", "RequestRules", "Value"]

KNOWN_BLOCKS = 1024
KNOWN_CLIENTS = 4096

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
        self._changes = bool(rules.sets or rules.adds)
        self._rewrites = bool(rules.strip_prefix or rules.add_prefix or rules.pattern)
        own = rules.deletes | {name for name, _ in rules.sets}
        self._dropped = CONNECTION | FRAMING | own | {b"host", b"expect", b"proxy"}
        self._guarded = own
        if rules.x_forwarded != "off":
            self._guarded |= CLAIMS - {b"forwarded"}
        if rules.x_forwarded != "off" or rules.forwarded != "off":
            self._guarded |= {b"forwarded"}  # what is not said anew, nobody vouches for
        self._blocks: dict[int, tuple[Sequence[tuple[bytes, bytes]], bytes]] = {}
        self._clients: dict[tuple[Any, ...], bytes] = {}

    def __repr__(self) -> str:
        return f"<RequestHead blocks={len(self._blocks)} clients={len(self._clients)}>"

    def make(self, req: Request, size: int, upgrade: bytes = b"", expect: bool = False) -> bytes:
        """The head of a request whose content has `size` bytes, -1 when it is chunked. Raises HTTPError 400."""
        fields = req.fields
        known = self._blocks.get(id(fields))
        block = known[1] if known is not None and known[0] is fields else self._make_block(fields)
        conn: Any = req.stream.conn
        peer = conn.peer.host
        key: tuple[Any, ...]
        if conn.trusted:
            index = req.index
            key = (
                peer, req.version, req.scheme, req.authority, req.port, req.src_host,
                *[index.get(name) for name in _KEPT],
            )  # fmt: skip
        else:
            key = (peer, req.version, req.scheme, req.authority, req.port)
        client = self._clients.get(key)
        if client is None:
            client = self._make_client(key)
        if self.rules.host is not None:
            client = b"host: %b\r\n%b" % (_sendable(self.rules.host(req)), client)
        more = self._more(req) if self._changes else b""
        if size:
            more += b"content-length: %d\r\n" % size if size > 0 else b"transfer-encoding: chunked\r\n"
            if expect:
                more += b"expect: 100-continue\r\n"
        elif b"content-length" in req.index or req.method in _WITH_CONTENT:
            more += b"content-length: 0\r\n"
        if upgrade:
            more += b"connection: upgrade\r\nupgrade: %b\r\n" % upgrade
        # Host comes first: RFC 9110 §7.2.
        return b"%b %b HTTP/1.1\r\n%b%b%b\r\n" % (req.method.encode(), self.target(req), client, block, more)

    # The target

    def target(self, req: Request) -> bytes:
        """The target that the node gets. Raises HTTPError 400 when it can't be one."""
        raw = req.raw_path
        if req.path == "*":
            return b"*"
        if b"/." in raw or b"%" in raw or b"\\" in raw:
            raw = _unambiguous(req)
        query = req.query_string
        if self._rewrites:
            raw, query = self._rewrite(req, raw, query)
        target = b"%b?%b" % (raw, query.encode("utf-8", "surrogateescape")) if query else raw
        if _TARGET.fullmatch(target) is None:
            raise HTTPError(400, "The target cannot be passed on.")
        return target

    def _rewrite(self, req: Request, raw: bytes, query: str) -> tuple[bytes, str]:
        rules = self.rules
        strip = rules.strip_prefix
        if strip:
            if not _below(raw, strip):
                raw = quote_path(req.path).encode("latin-1")  # "/%61pi" is "/api", too
            if _below(raw, strip):
                raw = b"/" + raw[len(strip) :].lstrip(b"/")
        if rules.add_prefix:
            raw = rules.add_prefix + raw
        if rules.pattern is not None:
            text = raw.decode("latin-1") + (f"?{query}" if query else "")
            path, _, query = rules.pattern.sub(rules.replacement, text).partition("?")
            raw = path.encode("latin-1", "replace")
        return raw, query

    # Fields

    def _make_block(self, fields: Sequence[tuple[bytes, bytes]]) -> bytes:
        """The lines of the fields that are passed on; remembered for fields that are shared by requests."""
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
        block = b"".join(lines)
        if fields.__class__ is tuple:
            if len(self._blocks) >= KNOWN_BLOCKS:
                self._blocks.clear()
            self._blocks[id(fields)] = (fields, block)
        return block

    def _make_client(self, key: tuple[Any, ...]) -> bytes:
        """The lines that tell of the client and of the way so far."""
        peer, version, scheme, authority, port, *rest = key
        kept = dict(zip(_KEPT, rest[1:], strict=True)) if rest else {}
        rules, lines = self.rules, []
        if rules.host is None:
            lines.append(b"host: " + _sendable(authority))
        address = "" if peer.startswith("unix:") else peer
        if rules.x_forwarded != "off":
            before = kept if rules.x_forwarded == "append" else {}
            chain = [one for one in (before.get(b"x-forwarded-for"), address.encode()) if one]
            if chain:
                lines.append(b"x-forwarded-for: " + b", ".join(chain))
            lines.append(b"x-forwarded-proto: " + scheme.encode())
            name = before.get(b"x-forwarded-host") or _sendable(authority)
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

    def _more(self, req: Request) -> bytes:
        """The lines of the fields that a configuration sets and adds; what comes to nothing is left out."""
        values = [(name, value(req)) for name, value in (*self.rules.sets, *self.rules.adds)]
        return b"".join([b"%b: %b\r\n" % (name, _sendable(text)) for name, text in values if text])


_KEPT = (b"x-forwarded-for", b"x-forwarded-host", b"x-forwarded-port", b"forwarded")
_WITH_CONTENT = frozenset({"POST", "PUT", "PATCH"})
_DOTS = re.compile(rb"(?:/|%2f|\\|%5c)(?:\.|%2e)", re.IGNORECASE)


def _unambiguous(req: Request) -> bytes:
    """The path as it came, but for dot segments, however they are written: conditions saw it without them, and the node
    must not see another path than they did."""
    if _DOTS.search(req.raw_path) is None:
        return req.raw_path
    return quote_path(req.path).encode("latin-1")


def _below(raw: bytes, prefix: bytes) -> bool:
    return raw.startswith(prefix) and (
        prefix.endswith(b"/") or raw[len(prefix) : len(prefix) + 1] in (b"", b"/")
    )


def _sendable(text: str) -> bytes:
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
    host = _sendable(authority).decode("latin-1").replace("\\", "").replace('"', "")
    quoted = host if re.fullmatch(r"[A-Za-z0-9._-]+", host) else f'"{host}"'
    return f"for={node}{f';host={quoted}' if host else ''};proto={scheme}".encode("latin-1")
