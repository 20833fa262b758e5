"""The contract between an exchange and the HTTP version it travels on.

Everything that differs between HTTP/1, /2 and /3 lives behind these verbs. A stream belongs to one exchange; when
that has ended all verbs raise ClientGone, so that an app which kept a request can do no harm to the next one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from hemi.sockets import Peer
    from hemi.tls import TLSInfo
    from hemi.web.response import Response


class ServerConn(Protocol):
    """What a request takes over from its connection."""

    scheme: str
    peer: Peer
    tls: TLSInfo | None
    trusted: bool
    """The peer is a proxy whose word about its clients counts."""


class ServerStream(Protocol):
    """One exchange on a server's connection. What the version can do is said by the class attributes."""

    has_trailers: bool
    """The version can carry fields behind the content."""
    has_informational: bool
    """The version can carry 1xx responses."""
    has_upgrade: bool
    """The connection can go over to another protocol."""
    conn: Any
    """The connection, None when the exchange has ended."""
    content: Any
    """The content of the request, None when it has none: `complete` says that it has come to its end, `arrived` how
    many bytes of it have come."""
    keep_alive: bool
    """The connection may go on behind this exchange."""

    def read(self, size: int) -> bytes:
        """Returns the next 1 to `size` bytes of the content, b"" at its end. Raises ClientGone, HTTPError."""
        ...

    def send_informational(self, status: int, fields: list[tuple[bytes, bytes]]) -> None:
        """Sends a 1xx response."""
        ...

    def send_whole(self, resp: Response, content: bytes) -> None:
        """Sends head and content, and ends the message."""
        ...

    def send_head(self, resp: Response) -> None:
        """Readies the head; it goes out with the first content, or by `flush`. `resp.content_size` frames it."""
        ...

    def flush(self) -> None:
        """Sends the head now if it has not gone out yet."""
        ...

    def send_data(self, data: bytes, last: bool = False) -> None:
        """Sends a piece of the content; blocks while the client does not keep up."""
        ...

    def send_file(self, file: int, start: int, size: int, last: bool = False) -> None:
        """Sends a part of an open file as a piece of the content."""
        ...

    def send_trailers(self, fields: list[tuple[bytes, bytes]]) -> None:
        """Ends a vague message with these fields behind the content."""
        ...

    def finish(self) -> None:
        """Ends the message if it has not ended, and the exchange."""
        ...

    def retract(self) -> bool:
        """Takes back a head that has not gone out, so that another can be sent. False when it is too late."""
        ...

    def abort(self) -> None:
        """Breaks the message off so that the client can tell; for when the head has gone out already."""
        ...

    def take_over(self, resp: Response, protocol: bytes) -> tuple[Any, bytes]:
        """Sends the head of a 101 and gives the channel up to another protocol, with what has come of it already.

        It is a `hemi.sockets.Channel`, or over HTTP/2, where an extended CONNECT is answered by a 200 instead, a
        `hemi.web.h2.tunnel.TunnelChannel` with the verbs that tunnels use. It is the caller's until the exchange ends,
        and is closed then. Raises ClientGone.
        """
        ...

    def is_gone(self) -> bool:
        """Looks, without waiting, whether the client has left, so that work for it can stop."""
        ...
