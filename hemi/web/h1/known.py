"""Request lines and blocks of fields that a server has seen before, to the byte, with what they come to.

Clients that keep a connection send the same fields again and again; parsing them is the better part of the work for a
request. What is remembered passed the strict parser, alone and whole, and is immutable; only the same bytes meet it
again, behind a line that matches a narrow pattern. Nothing here decides about framing.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, NamedTuple

from hemi.web.h1.framing import METHODS
from hemi.web.uri import BadTarget, normalise_path

if TYPE_CHECKING:
    from hemi.web.h1.stream import Server1Stream
    from hemi.web.hosts import Site
    from hemi.web.server import HTTPXServer

__all__ = ["METHOD_NAMES", "KnownHead", "KnownLine", "learn_head", "learn_line"]

KNOWN_HEADS = 1024
KNOWN_LINES = 4096
KNOWN_SIZE = 2048
"""How many blocks of fields and request lines a server remembers, and how large ones in bytes."""

_PLAIN_LINE = re.compile(
    rb"(GET|HEAD|POST|PUT|DELETE|OPTIONS|PATCH) "
    rb"((/[A-Za-z0-9/_.~!$&'()*+,;=:@%-]*)(?:\?([A-Za-z0-9/_.~!$&'()*+,;=:@%?-]*))?) HTTP/1\.1"
)

METHOD_NAMES = {name.encode(): name for name in METHODS}


class KnownLine(NamedTuple):
    """A plain request line, taken apart."""

    method: str
    target: bytes
    raw_path: bytes
    path: str
    query: str


class KnownHead(NamedTuple):
    """The fields of a request, seen before, with what they come to."""

    fields: tuple[tuple[bytes, bytes], ...]
    table: Mapping[bytes, bytes]
    site: Site
    keep_alive: bool


def learn_line(server: HTTPXServer, line: bytes) -> KnownLine | None:
    """Takes a plain request line apart, and remembers it; None for all that the parser must see."""
    match = _PLAIN_LINE.fullmatch(line)
    if match is None or len(line) > server.max_target_size:
        return None
    method, target, raw_path, query = match.groups()
    try:
        path = normalise_path(raw_path)
    except BadTarget:
        return None
    known = KnownLine(METHOD_NAMES[method], target, raw_path, path, query.decode("ascii") if query else "")
    lines = server.known_lines
    if len(line) <= KNOWN_SIZE:
        if len(lines) >= KNOWN_LINES:
            lines.clear()
        lines[line] = known
    return known


def learn_head(server: HTTPXServer, stream: Server1Stream, block: bytes) -> None:
    """Remembers the fields of a request that came alone and whole, if it is as ordinary as can be."""
    request = stream.request
    if (
        len(block) > KNOWN_SIZE
        or stream.refusal is not None
        or stream.content is not None
        or request.version != 11
        or request.path == "*"
    ):
        return
    index = request.index
    if b"upgrade" in index or b"expect" in index or request.target[:1] != b"/":
        return
    if len(block) + 2 + server.max_target_size > server.max_head_size:
        return  # behind another line it may be too large
    heads = server.known_heads
    if len(heads) >= KNOWN_HEADS:
        heads.clear()
    site = server.find_site(index[b"host"])
    heads[block] = KnownHead(tuple(request.fields), MappingProxyType(dict(index)), site, stream.keep_alive)
