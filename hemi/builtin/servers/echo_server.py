"""The server `echo_server`: sends back what it gets (RFC 862), on TCP, TLS and Unix domain sockets."""

from __future__ import annotations

from time import monotonic

from hemi.component import prop
from hemi.net.conn import TCPXConn
from hemi.net.listening import Listening
from hemi.server import Server
from hemi.values import Duration

__all__ = ["EchoServer"]

PIECE = 65536


class EchoServer(Listening, Server, sign="echo_server"):
    """Sends back what it gets, to try out clients, networks and routers."""

    idle_timeout: Duration = prop("1m", "How long a client may send nothing.", least="100ms")

    def serve(self, conn: TCPXConn) -> None:
        """Echoes until the client ends."""
        channel = conn.channel
        while True:
            channel.deadline = monotonic() + self.idle_timeout
            data = channel.recv(PIECE)
            if not data:
                break
            conn.bytes_received += len(data)
            channel.send(data)
            conn.bytes_sent += len(data)
