"""The backend `http_backend`: servers that speak HTTP/1.1."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Protocol

from hemi.component import prop
from hemi.upstream.backend import Backend
from hemi.values import Size
from hemi.web.h1.backend import Backend1Conn, Backend1Stream
from hemi.web.variables import REQUEST_SCOPE

if TYPE_CHECKING:
    from hemi.upstream.pool import Conn
    from hemi.web.h1.answer import Head


class Exchange(Protocol):
    """What the backend looks after: an exchange that ends when its client leaves."""

    def is_abandoned(self) -> bool: ...

    def cancel(self) -> None: ...


class HTTPBackend(Backend, sign="http_backend"):
    """A group of HTTP/1.1 servers. Numbers such as max_conns are per worker: workers do not know of each other."""

    conn_class: ClassVar[type[Conn]] = Backend1Conn
    alpn: ClassVar[tuple[str, ...]] = ("http/1.1",)
    scope = REQUEST_SCOPE

    max_head_size: Size = prop("64K", "The largest head of a response.", least="1K", most="1M", inherit=False)

    def __init__(self, *arguments: Any, **keywords: Any) -> None:
        super().__init__(*arguments, **keywords)
        self.known_heads: dict[bytes, Head] = {}
        self.exchanges: set[Exchange] = set()  # that wait for a node, and end when their client leaves

    def open_stream(self, conn: Any, method: str) -> Backend1Stream:
        """An exchange on a connection."""
        return Backend1Stream(conn.channel, method, self.known_heads, self.max_head_size)

    def tick(self, now: float) -> None:
        """Also looks after clients that have left: a node should not work for nobody."""
        super().tick(now)
        for exchange in [one for one in self.exchanges if one.is_abandoned()]:
            exchange.cancel()


__all__ = ["Exchange", "HTTPBackend"]
