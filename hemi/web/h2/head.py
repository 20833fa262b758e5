"""The head of a request, from its decoded fields to what a stream starts with (RFC 9113 §8.2, §8.3; RFC 8441).

What HTTP/2 itself does not allow is `Malformed`, and ends the stream; what we do not serve is a `Refusal`, which is
answered, with the same words as over HTTP/1. Nothing of either is ever forwarded.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING, NamedTuple

from hemi.web.h1.framing import BODYLESS, Refusal, head_size, merge_fields
from hemi.web.h2.errors import Malformed
from hemi.web.h2.priority import DEFAULT_URGENCY, parse_priority
from hemi.web.hosts import Site
from hemi.web.uri import BadTarget, normalise_path, split_authority, split_target

if TYPE_CHECKING:
    from hemi.web.server import HTTPXServer

Field = tuple[bytes, bytes]

KNOWN_FIELDS = 1024
"""How many different sets of fields a server remembers."""

MAX_CRUMBS = 256
"""The most pieces that clients may split their cookies into (CVE-2026-47774)."""

_NAME = re.compile(rb"[!#$%&'*+.^_`|~0-9a-z-]+")
_METHOD = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,32}")
_PROTOCOL = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z/-]{1,64}")
_BAD_VALUE = re.compile(rb"[\x00-\x08\x0a-\x1f\x7f]|^[ \t]|[ \t]$")
_CONNECTION = frozenset({b"connection", b"keep-alive", b"proxy-connection", b"transfer-encoding", b"upgrade"})
"""Fields of one HTTP/1 connection, which nobody may send over HTTP/2 (RFC 9113 §8.2.2): who passed them on would
frame a message of HTTP/1 by them."""
_PSEUDO = frozenset({b":method", b":scheme", b":authority", b":path", b":protocol"})


class KnownFields(NamedTuple):
    """What the fields of a request come to without its method and path. `size` is the Content-Length, -1 without."""

    fields: tuple[Field, ...]
    table: Mapping[bytes, bytes]
    site: Site
    size: int
    expects: bool
    urgency: int
    incremental: bool
    refusal: Refusal | None


class Head(NamedTuple):
    """A request's head. `protocol` is that of an extended CONNECT. With a refusal the rest may be missing."""

    method: str
    target: bytes
    raw_path: bytes
    path: str
    query: str
    protocol: bytes
    known: KnownFields
    refusal: Refusal | None = None


_NO_SITE = Site(None, "", "", 0)
_NOTHING_KNOWN = KnownFields((), {}, _NO_SITE, -1, False, DEFAULT_URGENCY, False, None)


def split_pseudo(pairs: Sequence[Field]) -> tuple[dict[bytes, bytes], list[Field]]:
    """The pseudo-fields and the others. Raises Malformed for doubled, unknown and late ones."""
    pseudo: dict[bytes, bytes] = {}
    for at, (name, value) in enumerate(pairs):
        if name[:1] != b":":
            return pseudo, list(pairs[at:])
        if name not in _PSEUDO:
            raise Malformed(f"the pseudo-field {name!r}")
        if name in pseudo:
            raise Malformed(f"the pseudo-field {name.decode()} is repeated")
        if _BAD_VALUE.search(value) is not None:
            raise Malformed(f"the value of {name.decode()} has control characters or spaces around it")
        pseudo[name] = value
    return pseudo, []


def check_fields(fields: Iterable[Field]) -> None:
    """Refuses what must not be among fields or trailers. Raises Malformed."""
    for name, value in fields:
        if _NAME.fullmatch(name) is None:
            if name[:1] == b":":
                raise Malformed(f"the pseudo-field {name!r} behind the fields")
            raise Malformed(f"the field name {name!r}")
        if _BAD_VALUE.search(value) is not None:
            raise Malformed(f"the value of {name.decode()} has control characters or spaces around it")
        if name in _CONNECTION or (name == b"te" and value.lower() != b"trailers"):
            raise Malformed(f"the field {name.decode()}, which is HTTP/1's")


def check_trailers(pairs: Sequence[Field], server: HTTPXServer) -> list[Field]:
    """The fields behind a content. Raises Malformed."""
    check_fields(pairs)
    if len(pairs) > server.max_fields or head_size(b"", pairs) > server.max_head_size:
        raise Malformed("trailers that are too large")
    return [(name, value) for name, value in pairs]


def examine(pairs: Sequence[Field], server: HTTPXServer) -> Head:
    """What a decoded block comes to. Raises Malformed."""
    pseudo, rest = split_pseudo(pairs)
    method = pseudo.get(b":method")
    if method is None or _METHOD.fullmatch(method) is None:
        raise Malformed("a request without a method")
    protocol = pseudo.get(b":protocol", b"")
    path = pseudo.get(b":path")
    tunnel = method == b"CONNECT" and b":protocol" not in pseudo
    if tunnel:
        if b":scheme" in pseudo or path is not None or b":authority" not in pseudo:
            raise Malformed("CONNECT with a scheme or path, or without authority")
    elif not path or not pseudo.get(b":scheme"):
        raise Malformed("a request without a path or scheme")
    if b":protocol" in pseudo and (
        method != b"CONNECT" or b":authority" not in pseudo or not _PROTOCOL.fullmatch(protocol)
    ):
        raise Malformed("a protocol that is not an extended CONNECT's")
    key = (pseudo.get(b":authority"), protocol, *rest)
    known = server.known_fields.get(key)
    if known is None:
        known = _learn(key, rest, protocol, server)
    if tunnel:
        refusal = Refusal(501, "Tunnels are not served here.")
        return Head("CONNECT", pseudo[b":authority"], b"", "", "", b"", known, refusal)
    name = "GET" if protocol else method.decode("ascii")
    return _examine_target(name, path or b"", pseudo[b":scheme"], protocol, known, server, pairs)


def _examine_target(
    method: str,
    target: bytes,
    scheme: bytes,
    protocol: bytes,
    known: KnownFields,
    server: HTTPXServer,
    pairs: Sequence[Field],
) -> Head:
    refusal = known.refusal
    raw_path, path, query = b"", "", ""
    try:
        parts = split_target(target)
        raw_path, query = parts.raw_path, parts.query
        if len(target) > server.max_target_size:
            refusal = Refusal(414, "The target of the request is too long.")
        elif parts.form == "asterisk":
            path = "*"
            if method != "OPTIONS":
                refusal = Refusal(400, "The target * is for OPTIONS only.")
        elif parts.form != "origin":
            refusal = Refusal(400, "The target must be a path.")
        else:
            path = normalise_path(raw_path)
    except BadTarget as error:
        refusal = Refusal(400, f"The target is not usable: {error}.")
    if scheme.lower() not in (b"http", b"https"):
        refusal = refusal or Refusal(400, "The scheme must be http or https.")
    if method in BODYLESS and known.size > 0:
        refusal = refusal or Refusal(400, f"A {method} request has no content.")
    if head_size(target, pairs) > server.max_head_size + 64:
        refusal = refusal or Refusal(431, "The head of the request is too large.")
    return Head(method, target, raw_path, path, query, protocol, known, refusal)


def _learn(key: tuple[object, ...], rest: list[Field], protocol: bytes, server: HTTPXServer) -> KnownFields:
    """Checks fields that were not met before, and remembers them if there is nothing wrong with them."""
    check_fields(rest)
    authority = key[0]
    crumbs = [value for name, value in rest if name == b"cookie"]
    if len(rest) - len(crumbs) > server.max_fields or len(crumbs) > MAX_CRUMBS:
        return _NOTHING_KNOWN._replace(refusal=Refusal(431, "The head of the request is too large."))
    try:
        known = _know(authority if isinstance(authority, bytes) else None, rest, crumbs, protocol, server)
    except Refusal as refusal:
        return _NOTHING_KNOWN._replace(refusal=refusal)
    if head_size(b"", rest) <= 4096:
        if len(server.known_fields) >= KNOWN_FIELDS:
            server.known_fields.clear()
        server.known_fields[key] = known
    return known


def _know(
    authority: bytes | None, rest: list[Field], crumbs: list[bytes], protocol: bytes, server: HTTPXServer
) -> KnownFields:
    """Raises Malformed, Refusal."""
    hosts = [value for name, value in rest if name == b"host"]
    if len(hosts) > 1:
        raise Malformed("the field host is repeated")
    if authority is not None and hosts and not _same_host(authority, hosts[0]):
        raise Malformed("the field host is another than the authority")  # RFC 9113 §8.3.1
    if authority is None and not hosts:
        raise Refusal(400, "The field Host is missing.")
    host = authority if authority is not None else hosts[0]
    fields = [(b"host", host)]
    fields += [(name, value) for name, value in rest if name != b"host" and name != b"cookie"]
    if crumbs:
        fields.append((b"cookie", b"; ".join(crumbs)))  # RFC 9113 §8.2.3
    if protocol:
        fields += [(b"connection", b"upgrade"), (b"upgrade", protocol)]
    index = merge_fields(fields)
    length = index.get(b"content-length")
    if length is not None and (not length.isdigit() or len(length) > 18):
        raise Malformed("the content-length is no number")
    expect = index.get(b"expect")
    if expect is not None and expect.lower() != b"100-continue":
        raise Refusal(417, "The only known expectation is 100-continue.")
    urgency, incremental = parse_priority(index.get(b"priority", b""))
    return KnownFields(
        tuple(fields),
        MappingProxyType(index),
        server.sites.get(host) or server.find_site(host),
        int(length) if length is not None else -1,
        expect is not None,
        urgency,
        incremental,
        None,
    )


def _same_host(authority: bytes, host: bytes) -> bool:
    """Whether both name the same: in whatever case, and written in whatever way."""
    if authority == host:
        return True
    try:
        return split_authority(authority) == split_authority(host)
    except BadTarget:
        return False
