"""The head of the response that goes to the client, made of the parsed head that a node sent.

What does not depend on the request is made once for a head that comes again and again.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import urlsplit

from hemi.web.proxy.names import CONNECTION, FRAMING
from hemi.web.proxy.requests import Value, sendable

if TYPE_CHECKING:
    from hemi.upstream.node import Node
    from hemi.web.h1.answer import Head
    from hemi.web.request import Request
    from hemi.web.response import Response

__all__ = ["Begun", "Prepared", "ResponseHead", "ResponseRules"]

KNOWN = 1024


class ResponseRules(NamedTuple):
    """What a configuration says about responses of nodes. `redirects` maps beginnings of locations; `cookie_domains`
    and `cookie_paths` map whole domains and beginnings of paths."""

    via: bytes = b"gorox"
    strip_prefix: str = ""
    add_prefix: str = ""
    follow_redirects: bool = True
    redirects: tuple[tuple[str, Callable[[Any], str]], ...] = ()
    cookie_domains: dict[str, str] = {}
    cookie_paths: tuple[tuple[str, str], ...] = ()
    deletes: frozenset[bytes] = frozenset()
    sets: tuple[Value, ...] = ()
    adds: tuple[Value, ...] = ()


class Prepared(NamedTuple):
    """A head as far as it is the same for all requests; `moving` are the fields that depend on the request."""

    status: int
    content_type: str
    fields: tuple[tuple[bytes, bytes], ...]
    lines: bytes
    moving: tuple[tuple[bytes, bytes], ...]
    has_date: bool
    has_server: bool

    def fill(self, resp: Response) -> None:
        """Sets the head of a response."""
        resp.status = self.status
        resp.content_type = self.content_type
        resp.has_date = self.has_date
        resp.has_server = self.has_server
        if resp.revisers:
            resp.fields = list(self.fields)  # which they look at, and may change
        else:
            resp.lines = self.lines


class Begun(NamedTuple):
    """An exchange that a `Lane` has begun: the request has gone out on a connection to a node, taken at that time, and
    `data` of the answer has come, or the failure. Without a connection only the node is taken."""

    node: Node
    conn: Any
    taken: float
    data: bytes
    failure: OSError | None


class ResponseHead:
    """Makes heads by rules."""

    def __init__(self, rules: ResponseRules) -> None:
        self.rules = rules
        self._changes = bool(rules.sets or rules.adds)
        self._moving: frozenset[bytes] = frozenset()
        if rules.follow_redirects or rules.redirects:
            self._moving |= {b"location", b"refresh"}
        if rules.cookie_domains or rules.cookie_paths:
            self._moving |= {b"set-cookie"}
        own = rules.deletes | {name for name, _ in rules.sets}
        self._dropped = CONNECTION | FRAMING | own
        self._known: dict[Head, Prepared] = {}

    def __repr__(self) -> str:
        return f"<ResponseHead known={len(self._known)}>"

    def apply(self, head: Head, req: Request, resp: Response, node: str, host: str) -> None:
        """Sets the response's head. `node` and `host` are how the node may call itself in a location."""
        prepared = self._known.get(head) or self._prepare(head)
        prepared.fill(resp)
        if prepared.moving:
            for name, value in prepared.moving:
                resp.fields.append((name, self._move(name, value, req, node, host)))
        if self._changes:
            for name, text in (*self.rules.sets, *self.rules.adds):
                given = text(req)
                if given:
                    resp.add_header(name.decode(), sendable(given).decode("latin-1"))

    def constant(self, head: Head) -> Prepared | None:
        """The head if it is the same for all requests, or None."""
        prepared = self._known.get(head)
        return prepared if prepared is not None and not prepared.moving and not self._changes else None

    def _prepare(self, head: Head) -> Prepared:
        dropped = self._dropped | head.options
        content_type = ""
        fields: list[tuple[bytes, bytes]] = []
        moving: list[tuple[bytes, bytes]] = []
        for name, value in head.fields:
            if name in dropped:
                continue
            if name == b"content-type":
                content_type = content_type or value.decode("latin-1")
            elif name in self._moving:
                moving.append((name, value))
            else:
                fields.append((name, value))
        if self.rules.via:
            fields.append((b"via", b"1.1 " + self.rules.via))
        names = {name for name, _ in fields}
        prepared = Prepared(
            head.status,
            content_type,
            tuple(fields),
            b"".join([b"%b: %b\r\n" % field for field in fields]),
            tuple(moving),
            b"date" in names,
            b"server" in names,
        )
        if head.is_known:
            if len(self._known) >= KNOWN:
                self._known.clear()
            self._known[head] = prepared
        return prepared

    # What points to the node must point to us

    def _move(self, name: bytes, value: bytes, req: Request, node: str, host: str) -> bytes:
        if name == b"set-cookie":
            return self._move_cookie(value.decode("latin-1")).encode("latin-1")
        text = value.decode("latin-1")
        if name == b"location":
            return sendable(self._move_location(text, req, node, host))
        before, mark, url = text.partition("url=")
        if not mark:
            before, mark, url = text.partition("URL=")
        if not mark:
            return value
        return sendable(before + mark + self._move_location(url, req, node, host))

    def _move_location(self, text: str, req: Request, node: str, host: str) -> str:
        for prefix, target in self.rules.redirects:
            if text.startswith(prefix):
                return target(req) + text[len(prefix) :]
        if not self.rules.follow_redirects:
            return text
        path = text
        if text[:7].lower() == "http://" or text[:8].lower() == "https://":
            try:
                parts = urlsplit(text)
            except ValueError:
                return text
            if parts.netloc.lower() not in (node, host):
                return text
            own = parts.netloc.lower() == req.authority
            path = text[text.index("//") + 2 + len(parts.netloc) :] or "/"
            if own and not (self.rules.strip_prefix or self.rules.add_prefix):
                return text  # it knows the name that clients use, and perhaps wants another scheme
            start = f"{parts.scheme if own else req.scheme}://{req.authority}"
        elif text.startswith("/") and not text.startswith("//"):
            start = ""
        else:
            return text
        return start + self._move_path(path)

    def _move_path(self, path: str) -> str:
        add, strip = self.rules.add_prefix, self.rules.strip_prefix
        if add:
            if not (path.startswith(add) and path[len(add) : len(add) + 1] in ("", "/", "?")):
                return path
            path = path[len(add) :] or "/"
        return strip.rstrip("/") + path if strip else path

    def _move_cookie(self, line: str) -> str:
        pieces = line.split(";")
        kept = pieces[:1]
        for piece in pieces[1:]:
            name, equals, value = piece.partition("=")
            key, value = name.strip().lower(), value.strip()
            if key == "domain" and equals:
                value = self.rules.cookie_domains.get(value.lstrip(".").lower(), value)
                if not value:
                    continue
                piece = f" Domain={value}"
            elif key == "path" and equals:
                for prefix, target in self.rules.cookie_paths:
                    if value.startswith(prefix):
                        value = target + value[len(prefix) :]
                        break
                piece = f" Path={value or '/'}"
            kept.append(piece)
        return ";".join(kept)
