"""The opening handshake, a server's side (RFC 6455 §4.2, RFC 8441 §5): is it one, may it be, what is agreed on.

Over HTTP/2 and /3 an extended CONNECT looks like a GET with `Upgrade: websocket` here; it has no key to prove anything
by, and no Connection (RFC 8441 §5).
"""

from __future__ import annotations

import base64
import binascii
import hashlib
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import urlsplit

from hemi.web.errors import HTTPError
from hemi.web.fields import is_token
from hemi.web.uri import BadTarget, split_authority
from hemi.web.websocket.deflate import agree

if TYPE_CHECKING:
    from hemi.web.request import Request
    from hemi.web.websocket.terms import WebSocketTerms

__all__ = ["Agreement", "accept_token", "agree_on", "is_upgrade", "may_open", "upgrade_required"]

WEBSOCKET = b"websocket"
VERSION = b"13"
_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
_PORTS = {"http": 80, "https": 443, "ws": 80, "wss": 443}


class Agreement(NamedTuple):
    """What a handshake comes to. `bits` is the window of what is compressed, 0 without compression."""

    subprotocol: str
    bits: int
    fields: list[tuple[bytes, bytes]]


def accept_token(key: bytes) -> bytes:
    """What proves that the key of a handshake was read (RFC 6455 §4.2.2)."""
    return base64.b64encode(hashlib.sha1(key + _GUID, usedforsecurity=False).digest())


def is_upgrade(req: Request) -> bool:
    """Whether a request wants to become a WebSocket, properly or not."""
    value = req.index.get(b"upgrade")
    return value is not None and WEBSOCKET in _tokens(value)


def _tokens(value: bytes) -> list[bytes]:
    return [one.strip(b" \t").lower() for one in value.split(b",")]


def upgrade_required(text: str = "Only WebSockets are served here.") -> HTTPError:
    """The answer to what is no handshake of a version that is spoken (RFC 9110 §15.5.22, RFC 6455 §4.4)."""
    return HTTPError(426, text, headers=(("upgrade", "websocket"), ("sec-websocket-version", "13")))


def check(req: Request) -> None:
    """Checks the form of a handshake. Raises HTTPError (RFC 6455 §4.2.1, §4.4)."""
    index = req.index
    if req.method != "GET" or req.version < 11 or req.content_size:
        raise HTTPError(
            400, "A WebSocket begins with a GET without content, of HTTP/1.1 at least.", close=True
        )
    if index.get(b"sec-websocket-version") != VERSION:
        raise upgrade_required("The version of the WebSocket protocol must be 13.")
    if req.version != 11:
        return
    if b"upgrade" not in _tokens(index.get(b"connection", b"")):
        raise HTTPError(400, "A WebSocket begins with Connection: Upgrade.")
    try:
        nonce = base64.b64decode(index.get(b"sec-websocket-key", b""), validate=True)
    except binascii.Error:
        nonce = b""
    if len(nonce) != 16:
        raise HTTPError(400, "Sec-WebSocket-Key must be 16 bytes in Base64.")


def may_open(req: Request, origins: Iterable[str]) -> bool:
    """Whether the page that opens a WebSocket may do so: one of the same host and port, or of `origins`.

    Browsers send cookies with every handshake and let any page make one; what they say in Origin is all that tells
    (cross-site WebSocket hijacking; RFC 6455 §10.2). Clients that are no browsers send none.
    """
    value = req.index.get(b"origin")
    if value is None:
        return True
    origin = value.decode("latin-1").lower()
    try:
        parts = urlsplit(origin)
        host, port = parts.hostname or "", parts.port or _PORTS.get(parts.scheme, 0)
    except ValueError:
        return False
    if host and host == _host_of(req) and port == _port_of(req, parts.scheme):
        return True
    for known in origins:
        known = known.lower()
        if known in ("*", origin):
            return True
        scheme, _, rest = known.rpartition("://")
        if (scheme and scheme != parts.scheme) or not host:
            continue
        name, _, wanted = rest.partition(":") if not rest.startswith("[") else rest[1:].partition("]")
        wanted = wanted.lstrip(":")
        if port != (int(wanted) if wanted else _PORTS.get(scheme, port)):
            continue
        if name == host or (name.startswith("*.") and host.endswith(name[1:]) and host != name[2:]):
            return True
    return False


def _host_of(req: Request) -> str:
    return req.hostname.strip("[]").lower()


def _port_of(req: Request, scheme: str) -> int:
    """The port of the request's authority; that of the page's scheme when it names none, as something in front of us
    may end TLS."""
    try:
        port = split_authority(req.authority.encode("latin-1"))[1]
    except BadTarget:
        port = 0
    return port or _PORTS.get(scheme, 0)


def choose_subprotocol(req: Request, known: Sequence[str]) -> str:
    """The first of the client's subprotocols that is known, "" for none. Raises HTTPError for what are no tokens."""
    offered = req.header_list("sec-websocket-protocol")
    if not all(is_token(name.encode("latin-1")) for name in offered):
        raise HTTPError(400, "Sec-WebSocket-Protocol must be a list of tokens.")
    return next((name for name in offered if name in known), "")


def agree_on(req: Request, terms: WebSocketTerms, subprotocols: Sequence[str]) -> Agreement:
    """Checks a handshake; what it comes to, with the fields of the answer. Raises HTTPError 400, 403, 426."""
    check(req)
    if not may_open(req, terms.origins):
        raise HTTPError(403, "Pages of other sites may not open WebSockets here (origins).")
    fields = []
    if req.version == 11:
        fields.append((b"sec-websocket-accept", accept_token(req.index[b"sec-websocket-key"])))
    subprotocol = choose_subprotocol(req, subprotocols)
    if subprotocol:
        fields.append((b"sec-websocket-protocol", subprotocol.encode("latin-1")))
    bits = 0
    if terms.deflate and b"sec-websocket-extensions" in req.index:
        answer = agree(req.header_list("sec-websocket-extensions"))
        if answer is not None:
            fields.append((b"sec-websocket-extensions", answer[0].encode("latin-1")))
            bits = answer[1]
    return Agreement(subprotocol, bits, fields)
