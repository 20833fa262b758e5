"""Dealets: the components that deal with connections, or with sessions of datagrams. The kind itself; ready-made ones
are in `hemi.builtin.dealets`."""

from __future__ import annotations

from typing import Any, ClassVar

from hemi.component import Component


class Dealet(Component, kind="dealets", nested=True):
    """Deals with a connection, or declines."""

    transports: ClassVar[tuple[str, ...]] = ("tcpx",)
    """In which routers it may be: "tcpx" for connections (it gets a `TCPXConn`), "udpx" for sessions of datagrams (a
    `UDPXConn`)."""

    def deal(self, conn: Any) -> bool:
        """Deals with the connection to its end and returns True, or returns False to let the next one try.

        Runs in the greenlet of the connection and may block: other connections go on meanwhile. The connection is
        closed afterwards. `conn.taken()` is what was read of it already; an exception is logged.

        A session of datagrams goes on afterwards if `conn.take` was called; otherwise it is dropped.
        """
        raise NotImplementedError
