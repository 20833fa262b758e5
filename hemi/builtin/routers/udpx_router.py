"""The router `udpx_router`: datagrams on UDP and Unix domain sockets."""

from __future__ import annotations

from collections.abc import Iterator

from hemi.net.router import Router
from hemi.net.udpconn import UDPXConn
from hemi.net.udplistening import UDPXListening
from hemi.net.variables import UDP_CASE_SCOPE

__all__ = ["UDPXRouter"]


class UDPXRouter(UDPXListening, Router, sign="udpx_router"):
    """Routes datagrams on UDP and Unix domain sockets. The first datagram of a source decides where the whole session
    goes: its further ones, and the answers to them."""

    scope = UDP_CASE_SCOPE
    transport = "udpx"

    def check(self) -> Iterator[str | tuple[str, str]]:
        """A router without cases would drop everything."""
        yield from super().check()
        yield from self.check_dealets()
        if not self.cases:
            yield "must have cases"

    def serve(self, conn: UDPXConn) -> None:
        """Has the cases tried; what none deals with is dropped."""
        if not self.route(conn):
            conn.refuse(404, "no case deals with it")
