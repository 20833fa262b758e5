"""The heads of HTTP/1 requests to a forward proxy: CONNECT, and targets in absolute form (RFC 9112 §3.2.2, §3.2.3).

No sockets in here. A head is parsed whole and alone, by llhttp and the checks of `hemi.web.h1.framing`, as those of a
web server are; what could be framed in two ways is refused, and nothing is passed on but what is rebuilt here.
"""

from __future__ import annotations

import base64
import binascii
from typing import Any, NamedTuple

from httptools import HttpParserError, HttpParserInvalidMethodError, HttpParserUpgrade, HttpRequestParser

from hemi.web.h1.answer import tokens_of
from hemi.web.h1.framing import Refusal, check_request_line, content_size, merge_fields
from hemi.web.proxy.names import CONNECTION, FRAMING
from hemi.web.uri import BadTarget, split_authority, split_target

__all__ = ["ProxyHead", "build_head", "credentials_of", "parse_proxy_head"]

MAX_TARGET = 8192
MAX_FIELDS = 100

_VERSIONS = {"1.1": 11, "1.0": 10}
_WITH_CONTENT = frozenset({"POST", "PUT", "PATCH"})


class ProxyHead(NamedTuple):
    """What a client wants of a proxy. `target` is what the server behind gets, b"" for CONNECT; `authority` names that
    server; `size` is the content's in bytes, -1 when it is chunked."""

    method: str
    version: int
    host: str
    port: int
    authority: bytes
    target: bytes
    fields: list[tuple[bytes, bytes]]
    table: dict[bytes, bytes]
    size: int


class _Collector:
    """What the parser calls back for a head."""

    def __init__(self) -> None:
        self.target = b""
        self.fields: list[tuple[bytes, bytes]] = []
        self.complete = False

    def on_url(self, target: bytes) -> None:
        self.target += target

    def on_header(self, name: bytes, value: bytes) -> None:
        self.fields.append((name.lower(), value.rstrip(b" \t")))

    def on_headers_complete(self) -> None:
        self.complete = True


def parse_proxy_head(block: bytes) -> ProxyHead:
    """Parses a head, from the request line to the empty line. Raises Refusal."""
    collector = _Collector()
    parser: Any = HttpRequestParser(collector)
    try:
        parser.feed_data(block)
    except HttpParserUpgrade:
        pass
    except HttpParserInvalidMethodError:
        raise Refusal(400, "It is no request, or its method is not known.") from None
    except HttpParserError as error:
        raise Refusal(400, f"The request is malformed: {str(error).lower()}.") from None
    if not collector.complete:
        raise Refusal(400, "The head of the request has no end.")
    method, target, fields = parser.get_method(), collector.target, collector.fields
    version = _VERSIONS.get(parser.get_http_version(), 0)
    if not version:
        if parser.get_http_version() == "0.9":
            raise Refusal(400, "HTTP/0.9 is not served.")
        raise Refusal(505, "The version of HTTP is not supported.")
    if b"  " in block or b" \r\n" in block or b"\t\r\n" in block:
        check_request_line(method, target, block)
    if len(target) > MAX_TARGET:
        raise Refusal(414, "The target of the request is too long.")
    if len(fields) > MAX_FIELDS:
        raise Refusal(431, "The head of the request has too many fields.")
    index = merge_fields(fields)
    name = method.decode("latin-1")
    size = content_size(name, version, index)
    try:
        host, port, authority, origin = _take_apart(name, target)
        if b"host" in index:
            if index[b"host"]:
                split_authority(index[b"host"])  # it does not count, but must be good (RFC 9112 §3.2)
        elif version >= 11:
            raise Refusal(400, "The field Host is missing.")
    except BadTarget as error:
        raise Refusal(400, f"The target is not usable: {error}.") from error
    if name in ("OPTIONS", "TRACE") and index.get(b"max-forwards") == b"0":
        raise Refusal(501, "The proxy itself has nothing to say to that.")
    if name == "CONNECT" and size:
        raise Refusal(400, "A CONNECT request has no content.")
    return ProxyHead(name, version, host, port, authority, origin, fields, index, size)


def _take_apart(method: str, target: bytes) -> tuple[str, int, bytes, bytes]:
    """Host, port, authority and target for the server behind. Raises Refusal, BadTarget."""
    if method == "CONNECT":
        host, given = split_authority(target)
        if given is None:
            raise Refusal(400, "The target of CONNECT must be host:port.")
        return host, given, target, b""
    found = split_target(target)
    if found.form != "absolute" or found.authority is None:
        raise Refusal(400, "This is a proxy: the target must be a whole URI.")
    if found.scheme != "http":
        raise Refusal(400, "The scheme of the target must be http; for others there is CONNECT.")
    host, given = split_authority(found.authority)
    authority = found.authority.encode("latin-1")
    origin = target[len("http://") + len(authority) :]
    if not origin and method == "OPTIONS":
        origin = b"*"  # without any path it means the server (RFC 9112 §3.2.4)
    elif not origin.startswith(b"/"):
        origin = b"/" + origin
    return host, given or 80, authority, origin


def credentials_of(index: dict[bytes, bytes]) -> tuple[str, bytes] | None:
    """User and password of Basic authentication to the proxy (RFC 7617, RFC 9110 §11.7.2), or None."""
    scheme, _, credentials = index.get(b"proxy-authorization", b"").partition(b" ")
    if scheme.lower() != b"basic":
        return None
    try:
        text = base64.b64decode(credentials.strip(), validate=True)
        user, colon, password = text.partition(b":")
        return (user.decode("utf-8"), password) if colon else None
    except (binascii.Error, UnicodeDecodeError):
        return None


def build_head(head: ProxyHead, via: bytes) -> bytes:
    """The head for the server behind: with one framing, and without what was about the connection to us."""
    dropped = CONNECTION | FRAMING | tokens_of(head.fields, b"connection") | {b"host", b"max-forwards"}
    if head.version < 11:
        dropped |= {b"expect"}
    lines = [b"%b: %b\r\n" % field for field in head.fields if field[0] not in dropped]
    hops = head.table.get(b"max-forwards", b"")
    if hops.isdigit():
        limited = head.method in ("OPTIONS", "TRACE")  # others may have it, and it means nothing there
        lines.append(b"max-forwards: %d\r\n" % (max(int(hops[:9]) - 1, 0) if limited else int(hops[:9])))
    if head.size < 0:
        lines.append(b"transfer-encoding: chunked\r\n")
    elif head.size or b"content-length" in head.table or head.method in _WITH_CONTENT:
        lines.append(b"content-length: %d\r\n" % head.size)
    if via:
        lines.append(b"via: %s %b\r\n" % (b"1.0" if head.version == 10 else b"1.1", via))
    return b"%b %b HTTP/1.1\r\nhost: %b\r\n%bconnection: close\r\n\r\n" % (
        head.method.encode(),
        head.target,
        head.authority,
        b"".join(lines),
    )
