"""The PROXY header that tells a node of the client whose connection follows. Reading one is in `hemi.peers`."""

from __future__ import annotations

from hemi import peers
from hemi.net.conn import TCPXConn
from hemi.peers import UDS_HOST, Version
from hemi.proxy_protocol import Endpoint

__all__ = ["Version", "make_header"]


def make_header(conn: TCPXConn, version: Version) -> bytes:
    """The header that tells a node who its client is; of version 2 it also tells what is known of TLS."""
    src: Endpoint | None = None
    dst: Endpoint | None = None
    if conn.src_host != UDS_HOST:
        src, dst = (conn.src_host, conn.src_port), conn.dst
    return peers.make_header(version, src, dst, conn.server_name, conn.channel.tls)
