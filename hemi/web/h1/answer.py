"""The responses of HTTP/1 upstreams, taken apart: heads and chunked contents. No sockets in here (RFC 9112 §4, §6, §7).

An upstream is trusted to speak for itself, not to speak for others: what could be framed in two ways is refused,
as the next response on the connection would belong to somebody else. llhttp, the parser, refuses bare CR and LF,
NUL, obs-fold, odd and repeated lengths; the rest is refused here.
"""

from __future__ import annotations

from typing import Any

from httptools import HttpParserError, HttpParserUpgrade, HttpResponseParser

from hemi.web.h1.framing import head_size

__all__ = ["CHUNKED", "TO_THE_END", "BadAnswer", "ChunkReader", "Head", "parse_head", "tokens_of"]

CHUNKED = -1
TO_THE_END = -2
"""Sizes of contents that tell their end by chunks, or by closing the connection."""

MAX_FIELDS = 500
MAX_WRAPPING = 65536
MAX_WRAPPING_RATIO = 8
"""How many bytes may be read for a chunked content, at once and for each byte of it (CVE-2023-39326)."""


class BadAnswer(Exception):
    """What came is no response to what was sent."""


class Head:
    """The head of a response. `fields` are in lower case and whole; `size` is that of the content in bytes, CHUNKED or
    TO_THE_END, for requests whose responses have content. `options` are the members of its Connection fields, and
    `keep_alive` what they say.

    A head may be kept and met again, so it is never changed.
    """

    __slots__ = ("fields", "is_known", "keep_alive", "options", "size", "status")

    def __init__(
        self,
        status: int,
        fields: tuple[tuple[bytes, bytes], ...],
        size: int,
        options: frozenset[bytes],
        keep_alive: bool,
    ) -> None:
        self.status = status
        self.fields = fields
        self.size = size
        self.options = options
        self.keep_alive = keep_alive
        self.is_known = False
        """The same object stands for the next response with the same head."""

    def __repr__(self) -> str:
        return f"<Head {self.status} fields={len(self.fields)} size={self.size}>"

    def get(self, name: bytes) -> bytes | None:
        """The value of a field, the first one if there are several."""
        for key, value in self.fields:
            if key == name:
                return value
        return None


class _Collector:
    """What the parser calls back for a head."""

    def __init__(self) -> None:
        self.fields: list[tuple[bytes, bytes]] = []
        self.complete = False

    def on_header(self, name: bytes, value: bytes) -> None:
        self.fields.append((name.lower(), value.rstrip(b" \t")))

    def on_headers_complete(self) -> None:
        self.complete = True


def parse_head(block: bytes) -> Head:
    """Parses a head, from the status line to the empty line. Raises BadAnswer."""
    if not block.startswith(b"HTTP/1."):
        raise BadAnswer(f"it is not HTTP/1: {block[:40]!r}")
    collector = _Collector()
    parser: Any = HttpResponseParser(collector)
    try:
        parser.feed_data(block)
    except HttpParserUpgrade:
        pass
    except HttpParserError as error:
        raise BadAnswer(f"it is malformed: {str(error).lower()}") from None
    if not collector.complete:
        raise BadAnswer("its head has no end")
    status: int = parser.get_status_code()
    if not 100 <= status <= 599:
        raise BadAnswer(f"it has the status {status}")
    fields = collector.fields
    if len(fields) > MAX_FIELDS:
        raise BadAnswer(f"it has more than {MAX_FIELDS} fields")
    version = parser.get_http_version()
    if version not in ("1.1", "1.0"):
        raise BadAnswer(f"it has the version {version}")
    options = tokens_of(fields, b"connection")
    size = _content_size(fields, version)
    keep_alive = version == "1.1" and b"close" not in options
    return Head(status, tuple(fields), size, options, keep_alive)


def tokens_of(fields: Any, name: bytes) -> frozenset[bytes]:
    """The members of a list of tokens, in lower case."""
    found = [value for key, value in fields if key == name]
    if not found:
        return _NONE
    return frozenset(token for one in b",".join(found).lower().split(b",") if (token := one.strip(b" \t")))


_NONE: frozenset[bytes] = frozenset()


def _content_size(fields: list[tuple[bytes, bytes]], version: str) -> int:
    """How the content is framed (RFC 9112 §6.3)."""
    codings = [value for name, value in fields if name == b"transfer-encoding"]
    lengths = [value for name, value in fields if name == b"content-length"]
    if codings:
        if lengths:
            raise BadAnswer("it has both a Transfer-Encoding and a Content-Length")
        if version == "1.0":
            raise BadAnswer("it is HTTP/1.0, which has no Transfer-Encoding")
        if len(codings) > 1 or codings[0].lower() != b"chunked":
            raise BadAnswer(f"it has the transfer coding {b', '.join(codings)[:60]!r}")
        return CHUNKED
    if not lengths:
        return TO_THE_END
    if len(lengths) > 1 or not lengths[0].isdigit() or len(lengths[0]) > 18:
        raise BadAnswer(f"it has the Content-Length {b', '.join(lengths)[:60]!r}")
    return int(lengths[0])


_PRIMER = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"


class ChunkReader:
    """Takes a chunked content apart. `excess` says that something came behind its end."""

    __slots__ = (
        "_arrived",
        "_chunks",
        "_fields",
        "_parser",
        "_received",
        "complete",
        "excess",
        "max_trailers",
    )

    def __init__(self, max_trailers: int = 65536) -> None:
        self.complete = False
        self.excess = False
        self.max_trailers = max_trailers
        self._chunks: list[bytes] = []
        self._fields: list[tuple[bytes, bytes]] = []
        self._arrived = 0
        self._received = 0
        self._parser: Any = HttpResponseParser(self)
        self._parser.feed_data(_PRIMER)
        self._fields = []

    def feed(self, data: bytes) -> bytes:
        """Takes what has arrived; returns the content in it. Raises BadAnswer."""
        self._received += len(data)
        try:
            self._parser.feed_data(data)
        except HttpParserError as error:
            if not self.complete:
                raise BadAnswer(f"its chunks are malformed: {str(error).lower()}") from None
            self.excess = True
        if not self.complete and self._received > MAX_WRAPPING + self._arrived * MAX_WRAPPING_RATIO:
            raise BadAnswer("its chunks have more wrapping than content")
        if self._fields and head_size(b"", self._fields) > self.max_trailers:
            raise BadAnswer("its trailers are too large")
        chunks = self._chunks
        if not chunks:
            return b""
        whole = chunks[0] if len(chunks) == 1 else b"".join(chunks)
        chunks.clear()
        return whole

    @property
    def trailers(self) -> list[tuple[bytes, bytes]]:
        """The fields behind the content."""
        return self._fields

    def on_message_begin(self) -> None:
        """Notes that another response has begun."""
        if self.complete:
            self.excess = True

    def on_header(self, name: bytes, value: bytes) -> None:
        """Takes a field, of the primer or of the trailers."""
        if not self.complete:
            self._fields.append((name.lower(), value.rstrip(b" \t")))

    def on_body(self, data: bytes) -> None:
        """Takes a piece of content."""
        if not self.complete:
            self._chunks.append(data)
            self._arrived += len(data)

    def on_message_complete(self) -> None:
        """Notes the end."""
        self.complete = True
