"""The PROXY header that tells a node of the client whose connection follows. Reading one is in `hemi.peers`."""

from __future__ import annotations

from typing import Literal

from hemi import proxy_protocol
from hemi.net.conn import TCPXConn
from hemi.peers import UDS_HOST
from hemi.proxy_protocol import TLV, Endpoint, TLSDetails

Version = Literal["v1", "v2"]


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
