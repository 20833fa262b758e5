"""The reviser `gzip`: compresses the content of responses by what the client accepts.

Compression and secrets: when a page shows a secret (a CSRF token) beside text that an attacker can choose (a
query that is echoed), the compressed size tells, try by try, how much of the secret the attacker has guessed
(BREACH, 2013). TLS does not help. Mask such tokens anew in each response, as Django does, or leave this
reviser out of the rules that show them; files and data without secrets are safe.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from typing import TYPE_CHECKING

import gevent

from hemi.component import prop
from hemi.values import Size
from hemi.web import codings
from hemi.web.codings import Coding
from hemi.web.fields import is_token
from hemi.web.reviser import Filter, Reviser
from hemi.web.statuses import NO_CONTENT

if TYPE_CHECKING:
    from hemi.web.request import Request
    from hemi.web.response import Response

OFF_HUB = 32768
"""Pieces of this many bytes are compressed by a thread, so that other connections go on meanwhile.

gzip at level 5 takes 1.3 ms for 32 KiB of text, and going to a thread and back 0.06 ms. All three libraries
let go of the interpreter while they work."""

# The digests of content that is not what goes out any more (RFC 9530, and what it replaces).
_STALE = frozenset(
    {b"accept-ranges", b"content-digest", b"content-md5", b"digest", b"repr-digest", b"content-length"}
)


class Encoding:
    """The filter of one content. One that is streamed is flushed piece by piece: whoever writes an event wants it to
    arrive now."""

    __slots__ = ("_encoder", "_streamed")

    def __init__(self, encoder: codings.Encoder, streamed: bool) -> None:
        self._encoder = encoder
        self._streamed = streamed

    def update(self, data: bytes) -> bytes:
        """Takes the next piece; returns what can go on."""
        if not data:
            return b""
        if len(data) >= OFF_HUB:
            result: bytes = gevent.get_hub().threadpool.apply(self._update, (data,))
            return result
        return self._update(data)

    def _update(self, data: bytes) -> bytes:
        ready = self._encoder.update(data)
        return ready + self._encoder.flush() if self._streamed else ready

    def finish(self) -> bytes:
        """Returns the rest."""
        return self._encoder.finish()


class Gzip(Reviser, sign="gzip"):
    """Compresses the content of responses with gzip, br or zstd, whichever the client accepts.

    Left alone are contents that are small, of other types, coded already, partial, or marked `no-transform`. A
    compressed response has a weak entity tag. br and zstd need the extras `gorox[brotli]` and `gorox[zstd]`.
    Pages that show secrets beside text from the request should not be compressed (BREACH).
    """

    codings: list[Coding] = prop(
        None,
        "What to compress with, the preferred one first: zstd, br, gzip. What is installed of these when missing.",
        least=1,
    )
    gzip_level: int = prop(5, "From 1, fast, to 9, small.", least=1, most=9)
    br_level: int = prop(
        4, "From 0, fast, to 11, small; from 10 on far too slow for dynamic content.", least=0, most=11
    )
    zstd_level: int = prop(3, "From 1, fast, to 19, small.", least=1, most=19)
    min_size: Size = prop("512", "Smaller contents go out as they are, unless they are streamed.")
    types: list[str] = prop(
        [
            "text/*",
            "*+json",
            "*+xml",
            "*+text",
            "application/cbor",
            "application/javascript",
            "application/json",
            "application/wasm",
            "application/x-javascript",
            "application/x-ndjson",
            "application/xml",
            "application/yaml",
            "font/otf",
            "font/ttf",
            "image/bmp",
            "image/x-icon",
            "application/vnd.ms-fontobject",
        ],
        'The media types to compress: "text/html", "text/*", "*+json", or "*" for all.',
        least=1,
    )

    def check(self) -> Iterator[str | tuple[str, str]]:
        """Codings must be installed, and types be media types."""
        for coding in self.codings or ():
            if not codings.is_available(coding):
                yield "codings", f'"{coding}" needs an extra package: pip install "{codings.EXTRAS[coding]}"'
        if self.codings is not None and len(set(self.codings)) != len(self.codings):
            yield "codings", "must not name the same coding twice"
        for pattern in self.types:
            if not _is_type_pattern(pattern):
                yield "types", f'must be media types such as "text/html" or "text/*", not "{pattern}"'

    def prepare(self) -> None:
        """Builds what is looked up per response."""
        self._offered: tuple[str, ...] = tuple(self.codings or codings.available())
        self._levels = {"gzip": self.gzip_level, "br": self.br_level, "zstd": self.zstd_level}
        patterns = [pattern.lower() for pattern in self.types]
        self._everything = "*" in patterns or "*/*" in patterns
        self._exact = frozenset(patterns)
        self._prefixes = tuple(pattern[:-1] for pattern in patterns if pattern.endswith("/*"))
        self._suffixes = tuple(pattern[1:] for pattern in patterns if pattern.startswith("*+"))
        self._is_wanted = lru_cache(1024)(self._wants)  # content types that apps make up are unbounded

    def _wants(self, content_type: str) -> bool:
        name = content_type.partition(";")[0].strip().lower()
        return (
            self._everything
            or name in self._exact
            or name.startswith(self._prefixes)
            or name.endswith(self._suffixes)
        )

    def revise_response(self, req: Request, resp: Response, size: int | None) -> Filter | None:
        """Chooses a coding, and rewrites the head for it."""
        status = resp.status
        if status == 304 and not resp.content_type:
            _match_unchanged(req, resp)
            return None
        if (
            (status in NO_CONTENT and status != 304)
            or (size is not None and size < self.min_size and status not in (206, 304))
            or not (self._is_wanted(resp.content_type) or (status == 206 and _has_parts(resp)))
        ):
            return None
        for name, value in resp.fields:
            if name == b"content-encoding" or (name == b"cache-control" and b"no-transform" in value.lower()):
                return None
        resp.vary("accept-encoding")
        if status == 206:
            return None  # a part of what may be compressed when it is asked for as a whole
        coding = codings.choose(self._offered, req.index.get(b"accept-encoding"))
        if not coding:
            return None
        # Other bytes than the tag was made for, of the same meaning (RFC 9110 §8.8.1). A 304 has the tag of its 200.
        weaken(resp)
        if status == 304:
            return None
        resp.fields = [field for field in resp.fields if field[0] not in _STALE]
        resp.fields.append((b"content-encoding", coding.encode()))
        return Encoding(codings.encoder(coding, self._levels[coding], size), size is None)


def weaken(resp: Response) -> None:
    """Makes the entity tag of a response weak."""
    for at, (name, value) in enumerate(resp.fields):
        if name == b"etag" and not value.startswith(b"W/"):
            resp.fields[at] = (b"etag", b"W/" + value)


def _match_unchanged(req: Request, resp: Response) -> None:
    """Makes the head of an app's 304, which need not say what type its 200 has, that of the response the client has."""
    tag = resp.header_text("etag")
    if tag[:1] == '"' and f"W/{tag}" in req.header_text("if-none-match"):  # weakened here
        resp.vary("accept-encoding")
        weaken(resp)


def _has_parts(resp: Response) -> bool:
    return resp.content_type.startswith("multipart/byteranges")


def _is_type_pattern(pattern: str) -> bool:
    if pattern == "*":
        return True
    if pattern.startswith("*+"):
        return is_token(pattern[2:].encode("ascii", "replace")) and pattern.isascii()
    kind, slash, name = pattern.partition("/")
    return bool(slash) and pattern.isascii() and is_token(kind.encode()) and is_token(name.encode())
