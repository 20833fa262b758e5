"""SOCKS on the wire: SOCKS5 (RFC 1928), its user names and passwords (RFC 1929), SOCKS4 and SOCKS4a.

Pure: functions on bytes, no sockets. Each `parse_…` returns what it found with the number of bytes that it took, or
None while more must come; the sizes of the messages bound how much that can be. Malformed is raised as soon as no
continuation could make the bytes right.

    client                                      server
    greeting: methods               →
                                    ←           the method chosen
    login, if that was chosen       →
                                    ←           status
    request: command, host, port    →
                                    ←           reply
    … and then the bytes of whatever was asked for

Datagrams that a client has relayed (UDP ASSOCIATE) have a header of their own, both ways (RFC 1928 §7).
"""

from __future__ import annotations

import ipaddress
import struct
from enum import IntEnum
from typing import NamedTuple

__all__ = [
    "Command",
    "Datagram",
    "Login",
    "Malformed",
    "Method",
    "Reply",
    "Request",
    "encode_choice",
    "encode_datagram_head",
    "encode_login",
    "encode_reply",
    "encode_reply4",
    "parse_datagram",
    "parse_greeting",
    "parse_login",
    "parse_request",
    "parse_request4",
]

VERSION = 5
VERSION_4 = 4
_LOGIN_VERSION = 1
MOST_TEXT = 255
"""Bytes of a host name or user name of SOCKS4, which end with a NUL wherever it comes."""


class Malformed(ValueError):
    """Bytes that are no message. `answer` is what the protocol says to that, b"" for nothing."""

    def __init__(self, reason: str, answer: bytes = b"") -> None:
        super().__init__(reason)
        self.answer = answer


class Method(IntEnum):
    """How a client may say who it is (RFC 1928 §3)."""

    NONE = 0
    PASSWORD = 2
    UNACCEPTABLE = 255


class Command(IntEnum):
    """What a client may ask for (RFC 1928 §4)."""

    CONNECT = 1
    BIND = 2
    UDP_ASSOCIATE = 3


class Reply(IntEnum):
    """What came of it (RFC 1928 §6). TTL_EXPIRED is what servers say when there was no answer in time."""

    SUCCEEDED = 0
    FAILED = 1
    NOT_ALLOWED = 2
    NETWORK_UNREACHABLE = 3
    HOST_UNREACHABLE = 4
    REFUSED = 5
    TTL_EXPIRED = 6
    COMMAND_UNKNOWN = 7
    ADDRESS_TYPE_UNKNOWN = 8


class Login(NamedTuple):
    """A user name and a password, as bytes: RFC 1929 names no character set."""

    user: bytes
    password: bytes


class Request(NamedTuple):
    """What a client asks for. `host` is an address in text, or a name as it came, which may be anything."""

    version: int
    command: int
    host: str
    port: int
    user: bytes = b""


class Datagram(NamedTuple):
    """A datagram of a client: where it is to go, and which fragment it is, 0 for a whole one."""

    fragment: int
    host: str
    port: int
    content: bytes


def parse_greeting(data: bytes) -> tuple[bytes, int] | None:
    """The methods that a client of SOCKS5 offers."""
    if data and data[0] != VERSION:
        raise Malformed(f"version {data[0]} of SOCKS is not known")
    if len(data) < 2 or len(data) < 2 + data[1]:
        return None
    return data[2 : 2 + data[1]], 2 + data[1]


def parse_login(data: bytes) -> tuple[Login, int] | None:
    """A user name and a password (RFC 1929 §2)."""
    if data and data[0] != _LOGIN_VERSION:
        raise Malformed(f"version {data[0]} of logins is not known", encode_login(False))
    if len(data) < 2:
        return None
    end = 2 + data[1]
    if len(data) < end + 1 or len(data) < end + 1 + data[end]:
        return None
    return Login(data[2:end], data[end + 1 : end + 1 + data[end]]), end + 1 + data[end]


def parse_request(data: bytes) -> tuple[Request, int] | None:
    """A request of SOCKS5 (RFC 1928 §4)."""
    if data and data[0] != VERSION:
        raise Malformed(f"version {data[0]} in a request of SOCKS5", encode_reply(Reply.FAILED))
    if len(data) > 2 and data[2]:
        raise Malformed("a reserved byte is not 0", encode_reply(Reply.FAILED))
    found = _parse_address(data)
    if found is None:
        return None
    host, port, end = found
    return Request(VERSION, data[1], host, port), end


def _parse_address(data: bytes) -> tuple[str, int, int] | None:
    """The host and the port that begin at the fourth byte with the type of the address, and where they end."""
    if len(data) < 5:
        return None
    kind = data[3]
    if kind == 1:
        start, end = 4, 8
    elif kind == 3:
        start, end = 5, 5 + data[4]
    elif kind == 4:
        start, end = 4, 20
    else:
        raise Malformed(f"the address type {kind} is not known", encode_reply(Reply.ADDRESS_TYPE_UNKNOWN))
    if len(data) < end + 2:
        return None
    raw = data[start:end]
    host = raw.decode("latin-1") if kind == 3 else str(ipaddress.ip_address(raw))
    return host, int.from_bytes(data[end : end + 2], "big"), end + 2


def parse_datagram(data: bytes) -> Datagram:
    """A datagram of a client (RFC 1928 §7)."""
    found = _parse_address(data)
    if found is None:
        raise Malformed("the header of a datagram does not end")
    if data[:2] != b"\0\0":
        raise Malformed("the reserved bytes of a datagram are not 0")
    host, port, end = found
    return Datagram(data[2], host, port, data[end:])


def encode_datagram_head(host: str, port: int) -> bytes:
    """What stands before the content of a datagram for a client: whose it is."""
    address = ipaddress.ip_address(host.partition("%")[0])
    return bytes((0, 0, 0, 1 if address.version == 4 else 4)) + address.packed + port.to_bytes(2, "big")


def parse_request4(data: bytes) -> tuple[Request, int] | None:
    """A request of SOCKS4, or of SOCKS4a, whose impossible address 0.0.0.x says that a name follows."""
    if data and data[0] != VERSION_4:
        raise Malformed(f"version {data[0]} in a request of SOCKS4", encode_reply4(False))
    if len(data) < 9:
        return None
    command, port, address = struct.unpack("!BH4s", data[1:8])
    text = _text(data, 8)
    if text is None:
        return None
    user, end = text
    host = str(ipaddress.IPv4Address(address))
    if address[:3] == b"\0\0\0" and address[3]:
        text = _text(data, end)
        if text is None:
            return None
        host, end = text[0].decode("latin-1"), text[1]
    return Request(VERSION_4, command, host, port, user), end


def _text(data: bytes, start: int) -> tuple[bytes, int] | None:
    """What stands before the next NUL, and where that ends."""
    end = data.find(b"\0", start, start + MOST_TEXT + 1)
    if end >= 0:
        return data[start:end], end + 1
    if len(data) - start > MOST_TEXT:
        raise Malformed(f"a text is longer than {MOST_TEXT} bytes", encode_reply4(False))
    return None


def encode_choice(method: Method) -> bytes:
    """The answer to a greeting."""
    return bytes((VERSION, method))


def encode_login(is_right: bool) -> bytes:
    """The answer to a login: any status but 0 says no (RFC 1929 §2)."""
    return bytes((_LOGIN_VERSION, 0 if is_right else 1))


def encode_reply(reply: Reply, host: str = "0.0.0.0", port: int = 0) -> bytes:
    """The answer to a request of SOCKS5, with the address of the server's end."""
    address = ipaddress.ip_address(host.partition("%")[0])
    kind = 1 if address.version == 4 else 4
    return bytes((VERSION, reply, 0, kind)) + address.packed + port.to_bytes(2, "big")


def encode_reply4(granted: bool, host: str = "0.0.0.0", port: int = 0) -> bytes:
    """The answer to a request of SOCKS4, with the address of the server's end where that is of IPv4."""
    address = ipaddress.ip_address(host.partition("%")[0])
    packed = address.packed if address.version == 4 else b"\0\0\0\0"
    return struct.pack("!BBH4s", 0, 90 if granted else 91, port, packed)
