"""Who is at the other end of an accepted connection: as the kernel tells, or as a PROXY header at its beginning does.

What such a header looks like is in `hemi.proxy_protocol`; whom to believe is for the caller.
"""

from __future__ import annotations

import ipaddress
from typing import TYPE_CHECKING, Any, Literal

from hemi import proxy_protocol
from hemi.proxy_protocol import TLV, Endpoint, Header, TLSDetails
from hemi.sockets import Channel, Peer

if TYPE_CHECKING:
    from hemi.tls import TLSInfo

__all__ = [
    "UDS_HOST",
    "Version",
    "client_of",
    "make_header",
    "peer_named",
    "peer_of",
    "plain_host",
    "read_header",
]

Version = Literal["v1", "v2"]
"""Of PROXY headers."""

UDS_HOST = "unix:"
"""What the address of a client of a Unix domain socket reads as."""

PIECE = 4096


def plain_host(host: str) -> str:
    """The IPv4 address of a host that came as an IPv6 one (::ffff:192.0.2.1); others as they are."""
    return host[7:] if host.startswith("::ffff:") and "." in host else host


def peer_of(address: Any) -> Peer:
    """The peer of an accepted socket. An IPv4 client of a socket for both families is an IPv4 client."""
    return Peer(plain_host(address[0]), address[1]) if isinstance(address, tuple) else Peer(UDS_HOST, 0)


def read_header(channel: Channel) -> Header:
    """Reads the PROXY header that must open the connection; nothing behind it is touched.

    Raises ProxyProtocolError, EOFError, DeadlinePassed, OSError.
    """
    head = b""
    while True:
        data = channel.peek(PIECE)
        if not data:
            raise EOFError("the connection ended before the PROXY header did")
        result = proxy_protocol.parse(head + data)
        if isinstance(result, Header):
            channel.sock.recv(result.size - len(head))
            return result
        head += channel.sock.recv(len(data))  # more is needed, so all of this belongs to the header


def peer_named(header: Header, peer: Peer) -> Peer:
    """The client that a header names, or `peer` when it names none (LOCAL, UNKNOWN)."""
    if not header.is_known:
        return peer
    if header.transport in ("unix", "unixgram"):
        return Peer(UDS_HOST, 0)
    return Peer(plain_host(header.src_host), header.src_port)


def make_header(
    version: Version,
    src: Endpoint | None,
    dst: Endpoint | None,
    server_name: str = "",
    info: TLSInfo | None = None,
) -> bytes:
    """The header that tells a node who its client is; of version 2 it also tells what is known of TLS. Without the two
    ends it says that nobody is meant."""
    if version == "v1":
        return proxy_protocol.build_v1(src, dst)
    tlvs: list[tuple[int, bytes]] = []
    if server_name:
        tlvs.append((TLV.AUTHORITY, server_name.encode("utf-8", "replace")))
    if info is not None:
        if info.alpn:
            tlvs.append((TLV.ALPN, info.alpn.encode("latin-1", "replace")))
        name = info.client_subject if info.verified else ""
        details = TLSDetails(True, info.verified, info.verified, info.version, info.cipher, name)
        tlvs.append(proxy_protocol.ssl_tlv(details))
    return proxy_protocol.build_v2(src, dst, tlvs=tlvs)


def client_of(host: str) -> str:
    """Who a client is, for counting: an IPv6 client can use all addresses of its /64."""
    if ":" not in host:
        return host
    try:
        address = ipaddress.IPv6Address(host.partition("%")[0])
    except ValueError:
        return host
    if address.ipv4_mapped is not None:
        return str(address.ipv4_mapped)
    return str(ipaddress.IPv6Address(int(address) >> 64 << 64)) + "/64"
