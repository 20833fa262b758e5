"""Datagrams on a listening socket: how they are received, and how answers leave from the address they came to.

A socket that is bound to all addresses of a machine would answer from whichever the route prefers, and clients drop
what comes from elsewhere than they asked. So on these the kernel tells, with each datagram, to which address it came
(IP_PKTINFO; RFC 3542 §6 for IPv6), and is told the same with the answer.
"""

from __future__ import annotations

import errno
import socket
import struct
from _socket import socket as RawSocket
from typing import Any

__all__ = ["LOST", "SIZE", "answer_info", "host_in", "info_room"]

SIZE = 65536
"""Bytes that are read at once: more than UDP can carry, so that what is longer (on a Unix domain socket) shows."""

LOST = frozenset((errno.EAGAIN, errno.ENOBUFS, errno.ENOMEM, errno.EMSGSIZE, errno.EPERM, errno.EINVAL))
"""Errors of sending that say nothing about the other end: the datagram is lost, as datagrams are."""

Info = list[tuple[int, int, bytes]]
"""What comes with a datagram, and goes with the answer (sendmsg(2))."""

_IP_PKTINFO = 8  # of <linux/in.h>: Python has no name for it before 3.12
_INET = struct.Struct("=i4s4s")
_INET6 = struct.Struct("=16sI")
_LINK_LOCAL = b"\xfe\x80"


def info_room(sock: RawSocket) -> int:
    """Has the kernel tell to which address datagrams came, where it may be several; how much room that takes."""
    if sock.family == socket.AF_INET and sock.getsockname()[0] == "0.0.0.0":
        sock.setsockopt(socket.IPPROTO_IP, _IP_PKTINFO, 1)
        return socket.CMSG_SPACE(_INET.size)
    if sock.family == socket.AF_INET6 and sock.getsockname()[0] == "::":
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_RECVPKTINFO, 1)
        return socket.CMSG_SPACE(_INET6.size)
    return 0


def answer_info(info: Info) -> Info:
    """What goes with the answer to a datagram that came with `info`: the same address, by whichever interface is right;
    only an address that is valid on one link alone stays with its interface."""
    for level, kind, data in info:
        if level == socket.IPPROTO_IP and kind == _IP_PKTINFO and len(data) == _INET.size:
            return [(level, kind, _INET.pack(0, _INET.unpack(data)[1], bytes(4)))]
        if level == socket.IPPROTO_IPV6 and kind == socket.IPV6_PKTINFO and len(data) == _INET6.size:
            address, interface = _INET6.unpack(data)
            return [(level, kind, _INET6.pack(address, interface if address[:2] == _LINK_LOCAL else 0))]
    return []


def host_in(info: Any) -> str:
    """The address to which a datagram came, "" when nobody says."""
    for level, kind, data in info or ():
        if level == socket.IPPROTO_IP and kind == _IP_PKTINFO:
            return socket.inet_ntop(socket.AF_INET, data[4:8])
        if level == socket.IPPROTO_IPV6 and kind == socket.IPV6_PKTINFO:
            return socket.inet_ntop(socket.AF_INET6, data[:16])
    return ""
