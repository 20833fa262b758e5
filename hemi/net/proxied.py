"""The PROXY header at the beginning of a connection: read from a channel, and made for one.

What it looks like is in `hemi.proxy_protocol`; whom to believe is for the caller.
"""

from __future__ import annotations

from typing import Literal

from hemi import proxy_protocol
from hemi.net.conn import UDS_HOST, TCPXConn
from hemi.proxy_protocol import TLV, Endpoint, Header, TLSDetails
from hemi.sockets import Channel

Version = Literal["v1", "v2"]


def read_header(channel: Channel) -> Header:
    """Reads the header that must open the connection; nothing behind it is touched.

    Raises ProxyProtocolError, EOFError, DeadlinePassed, OSError.
    """
    head = b""
    while True:
        data = channel.peek(4096)
        if not data:
            raise EOFError("the connection ended before the PROXY header did")
        result = proxy_protocol.parse(head + data)
        if isinstance(result, Header):
            channel.sock.recv(result.size - len(head))
            return result
        head += channel.sock.recv(len(data))  # more is needed, so all of this belongs to the header


def make_header(conn: TCPXConn, version: Version) -> bytes:
    """The header that tells a node who its client is; of version 2 it also tells what is known of TLS."""
    src: Endpoint | None = None
    dst: Endpoint | None = None
    if conn.src_host != UDS_HOST:
        src, dst = (conn.src_host, conn.src_port), conn.dst
    if version == "v1":
        return proxy_protocol.build_v1(src, dst)
    tlvs: list[tuple[int, bytes]] = []
    if conn.server_name:
        tlvs.append((TLV.AUTHORITY, conn.server_name.encode("utf-8", "replace")))
    info = conn.channel.tls
    if info is not None:
        if info.alpn:
            tlvs.append((TLV.ALPN, info.alpn.encode("latin-1", "replace")))
        name = info.client_subject if info.verified else ""
        details = TLSDetails(True, info.verified, info.verified, info.version, info.cipher, name)
        tlvs.append(proxy_protocol.ssl_tlv(details))
    return proxy_protocol.build_v2(src, dst, tlvs=tlvs)
