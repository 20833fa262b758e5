"""The backend `tcpx_backend`: servers of any protocol on TCP, TLS and Unix domain sockets."""

from __future__ import annotations

from hemi.net.variables import CASE_SCOPE
from hemi.upstream.backend import Backend

__all__ = ["TCPXBackend"]


class TCPXBackend(Backend, sign="tcpx_backend"):
    """A group of servers of any protocol, on TCP, TLS or Unix domain sockets. Each connection of a client has one of
    its own to a node. Numbers such as max_conns are per worker: workers do not know of each other."""

    scope = CASE_SCOPE
