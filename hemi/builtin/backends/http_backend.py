"""The backend `http_backend`: servers that speak HTTP/1.1."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from hemi.web.h1.backend import Backend1Conn, Backend1Stream
from hemi.web.proxy.backend import WebBackend

if TYPE_CHECKING:
    from hemi.upstream.pool import Conn
    from hemi.web.h1.answer import Head

__all__ = ["HTTPBackend"]


class HTTPBackend(WebBackend, sign="http_backend"):
    """A group of HTTP/1.1 servers. Numbers such as max_conns are per worker: workers do not know of each other."""

    conn_class: ClassVar[type[Conn]] = Backend1Conn
    alpn: ClassVar[tuple[str, ...]] = ("http/1.1",)

    def __init__(self, *arguments: Any, **keywords: Any) -> None:
        super().__init__(*arguments, **keywords)
        self.known_heads: dict[bytes, Head] = {}

    def open_stream(self, conn: Any, method: str) -> Backend1Stream:
        """An exchange on a connection."""
        return Backend1Stream(conn.channel, method, self.known_heads, self.max_head_size)
