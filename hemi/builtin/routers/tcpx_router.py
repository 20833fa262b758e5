"""The router `tcpx_router`: connections on TCP, TLS and Unix domain sockets."""

from __future__ import annotations

from collections.abc import Iterator

from hemi.net.conn import TCPXConn
from hemi.net.listening import TCPXListening
from hemi.net.router import Router

__all__ = ["TCPXRouter"]


class TCPXRouter(TCPXListening, Router, sign="tcpx_router"):
    """Routes connections on TCP, TLS and Unix domain sockets by their addresses, and by what their ClientHello asks
    for. TLS passes through untouched, or ends here when `tls` says so."""

    def check(self) -> Iterator[str | tuple[str, str]]:
        """A router without cases would close everything."""
        yield from super().check()
        yield from self.check_dealets()
        if not self.cases:
            yield "must have cases"

    def serve(self, conn: TCPXConn) -> None:
        """Has the cases tried; what none deals with is closed."""
        if not self.route(conn):
            conn.refuse(404, "no case deals with it")
            self.stage.log.info(
                "router", f'"{self.name}": no case deals with {conn.line()} from {conn.src_host}'
            )
