"""The backend `udpx_backend`: servers of any protocol on UDP and Unix datagram sockets."""

from __future__ import annotations

from collections.abc import Iterator

from hemi.net.variables import UDP_CASE_SCOPE
from hemi.upstream.backend import Backend

__all__ = ["UDPXBackend"]


class UDPXBackend(Backend, sign="udpx_backend"):
    """A group of servers of any protocol, on UDP or Unix datagram sockets. Each session has a socket of its own to its
    node. Numbers such as max_conns are sessions, per worker; who finds all nodes full does not wait."""

    scope = UDP_CASE_SCOPE

    def check(self) -> Iterator[str | tuple[str, str]]:
        """TLS is for connections."""
        yield from super().check()
        if self.tls:
            yield "tls", "is not for datagrams"
