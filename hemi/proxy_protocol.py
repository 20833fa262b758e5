"""The PROXY protocol, versions 1 and 2: who the client of a proxied connection really is.

A parser and builders on bytes, without sockets, after HAProxy's specification (doc/proxy-protocol.txt).
Whom to believe is for the caller: only peers that are listed may speak it, and those must.

The parser never takes a byte behind the header for a part of it, and knows at every point whether what came
can still become one, so that garbage is refused at its first wrong byte.
"""

from __future__ import annotations

import ipaddress
import re
import struct
from collections.abc import Iterable
from enum import IntEnum
from typing import Literal, NamedTuple

Transport = Literal["tcp4", "tcp6", "udp4", "udp6", "unix", "unixgram", "unknown"]

SIGNATURE = b"\r\n\r\n\x00\r\nQUIT\n"
"""The first 12 bytes of version 2."""

MAX_V1 = 107
"""The longest line of version 1, its CRLF included."""

MAX_V2 = 16 * 1024
"""The longest header of version 2 that is accepted unless told otherwise: room for a client certificate."""


class ProxyProtocolError(ValueError):
    """What came is not, and cannot become, a PROXY header."""


class TLV(IntEnum):
    """Types of the additional information of version 2."""

    ALPN = 0x01
    AUTHORITY = 0x02
    CRC32C = 0x03
    NOOP = 0x04
    UNIQUE_ID = 0x05
    SSL = 0x20
    SSL_VERSION = 0x21
    SSL_CN = 0x22
    SSL_CIPHER = 0x23
    SSL_SIG_ALG = 0x24
    SSL_KEY_ALG = 0x25
    SSL_GROUP = 0x26
    SSL_SIG_SCHEME = 0x27
    SSL_CLIENT_CERT = 0x28
    NETNS = 0x30


class TLSDetails(NamedTuple):
    """What the proxy says of the client's TLS connection; texts are "" if it does not say."""

    over_tls: bool
    has_certificate: bool
    """A certificate came on this connection, or in the session that it resumes."""
    is_verified: bool
    """A certificate came, and the proxy verified it."""
    version: str
    cipher: str
    common_name: str


class Header(NamedTuple):
    """A complete header. `size` is the bytes it took; what follows belongs to the proxied connection."""

    version: int
    is_local: bool
    """The proxy speaks for itself (a health check): the addresses of the connection are the real ones."""
    transport: Transport
    src_host: str
    """An IP address; the path of a socket for unix; "" if unknown."""
    src_port: int
    dst_host: str
    dst_port: int
    tlvs: tuple[tuple[int, bytes], ...]
    size: int

    @property
    def is_known(self) -> bool:
        """Whether there are addresses in it that replace those of the connection."""
        return not self.is_local and self.transport != "unknown"

    def tlv(self, kind: int) -> bytes | None:
        """The value of the first TLV of a type, or None."""
        return next((value for number, value in self.tlvs if number == kind), None)

    @property
    def alpn(self) -> str:
        """The application protocol that the client chose, "" if not given."""
        return (self.tlv(TLV.ALPN) or b"").decode("latin-1")

    @property
    def authority(self) -> str:
        """The server name (SNI) that the client asked for, "" if not given."""
        return (self.tlv(TLV.AUTHORITY) or b"").decode("utf-8", "replace")

    @property
    def tls(self) -> TLSDetails | None:
        """The client's TLS connection to the proxy, None if the proxy says nothing of it."""
        value = self.tlv(TLV.SSL)
        return None if value is None else _parse_ssl(value)


class Need(NamedTuple):
    """More is needed: at least `size` bytes from the beginning."""

    size: int


def parse(data: bytes, most: int = MAX_V2) -> Header | Need:
    """Parses the header at the beginning of a connection.

    `most` is the largest header of version 2 accepted, in bytes. Raises ProxyProtocolError.
    """
    if not data:
        return Need(_V1_SHORTEST)
    if data[:1] == b"P":
        return _parse_v1(data)
    if data[:12] != SIGNATURE[: len(data)]:
        raise ProxyProtocolError(f"neither PROXY nor the signature of version 2: {data[:12]!r}")
    if len(data) < 16:
        return Need(16)
    length = int.from_bytes(data[14:16], "big")
    if 16 + length > most:
        raise ProxyProtocolError(f"the header must not be larger than {most} bytes, not {16 + length}")
    if data[12] not in (0x20, 0x21):
        raise ProxyProtocolError(f"unknown version and command: 0x{data[12]:02x}")
    if data[13] not in _FAMILIES:
        raise ProxyProtocolError(f"unknown address family and protocol: 0x{data[13]:02x}")
    if len(data) < 16 + length:
        return Need(16 + length)
    return _parse_v2(data[: 16 + length])


# Version 1: one line of text.

_V1 = re.compile(
    rb"PROXY (TCP4|TCP6) ([0-9A-Fa-f.:]{2,39}) ([0-9A-Fa-f.:]{2,39}) ([0-9]{1,5}) ([0-9]{1,5})\r\n"
)
_V1_START = b"PROXY "
_V1_SHORTEST = len(b"PROXY UNKNOWN\r\n")


def _parse_v1(data: bytes) -> Header | Need:
    if data[:6] != _V1_START[: len(data)]:
        raise ProxyProtocolError(f"neither PROXY nor the signature of version 2: {data[:12]!r}")
    end = data.find(b"\n", 0, MAX_V1)
    if end < 0:
        if len(data) >= MAX_V1:
            raise ProxyProtocolError(f"the line must end within {MAX_V1} bytes: {data[:24]!r}…")
        return Need(max(_V1_SHORTEST, len(data) + 1))
    line = data[: end + 1]
    if re.fullmatch(rb"PROXY UNKNOWN(?: [^\r\n]*)?\r\n", line) is not None:
        return Header(1, False, "unknown", "", 0, "", 0, (), len(line))
    match = _V1.fullmatch(line)
    if match is None:
        raise ProxyProtocolError(f"malformed line: {line!r}")
    kind, src, dst, src_port, dst_port = match.groups()
    transport: Transport = "tcp4" if kind == b"TCP4" else "tcp6"
    return Header(
        1,
        False,
        transport,
        _parse_address(src, transport),
        _parse_port(src_port),
        _parse_address(dst, transport),
        _parse_port(dst_port),
        (),
        len(line),
    )


def _parse_address(text: bytes, transport: Transport) -> str:
    try:
        if transport == "tcp4":
            return str(ipaddress.IPv4Address(text.decode("ascii")))
        return _show_ipv6(ipaddress.IPv6Address(text.decode("ascii")))
    except ValueError:
        raise ProxyProtocolError(f"not an address of {transport}: {text!r}") from None


def _show_ipv6(address: ipaddress.IPv6Address) -> str:
    mapped = address.ipv4_mapped  # str() shows it differently from Python 3.13 on
    return address.compressed if mapped is None else f"::ffff:{mapped}"


def _parse_port(digits: bytes) -> int:
    port = int(digits)
    if port > 65535 or str(port).encode() != digits:
        raise ProxyProtocolError(f"not a port: {digits!r}")
    return port


# Version 2: binary.

_FAMILIES: dict[int, Transport] = {
    0x00: "unknown",
    0x11: "tcp4",
    0x12: "udp4",
    0x21: "tcp6",
    0x22: "udp6",
    0x31: "unix",
    0x32: "unixgram",
}
_CODES = {transport: code for code, transport in _FAMILIES.items()}
_INET = struct.Struct("!4s4sHH")
_INET6 = struct.Struct("!16s16sHH")
_UNIX = struct.Struct("!108s108s")
_LAYOUTS = {1: _INET, 2: _INET6, 3: _UNIX}


def _parse_v2(data: bytes) -> Header:
    transport = _FAMILIES[data[13]]
    if data[12] == 0x20:  # LOCAL: whatever the block says must be ignored
        return Header(2, True, "unknown", "", 0, "", 0, (), len(data))
    layout = _LAYOUTS.get(data[13] >> 4)
    if layout is None:
        return Header(2, False, "unknown", "", 0, "", 0, (), len(data))
    if len(data) < 16 + layout.size:
        raise ProxyProtocolError(
            f"the addresses of {transport} must have {layout.size} bytes, not {len(data) - 16}"
        )
    tlvs = _parse_tlvs(data, 16 + layout.size)
    _check_crc(data, tlvs)
    pairs = tuple((kind, data[start:stop]) for kind, start, stop in tlvs)
    for kind, value in pairs:
        if kind == TLV.UNIQUE_ID and len(value) > 128:
            raise ProxyProtocolError(f"a unique id must not have more than 128 bytes, not {len(value)}")
        if kind == TLV.SSL:
            _parse_ssl(value)
    fields = layout.unpack_from(data, 16)
    if layout is _UNIX:
        return Header(
            2, False, transport, _unix_path(fields[0]), 0, _unix_path(fields[1]), 0, pairs, len(data)
        )
    src, dst, src_port, dst_port = fields
    return Header(2, False, transport, _show(src), src_port, _show(dst), dst_port, pairs, len(data))


def _show(packed: bytes) -> str:
    return (
        str(ipaddress.IPv4Address(packed)) if len(packed) == 4 else _show_ipv6(ipaddress.IPv6Address(packed))
    )


def _unix_path(raw: bytes) -> str:
    if raw[:1] == b"\0":  # an abstract name, or none
        name = raw[1:].rstrip(b"\0")
        return "@" + name.decode("utf-8", "surrogateescape") if name else ""
    return raw.partition(b"\0")[0].decode("utf-8", "surrogateescape")


def _parse_tlvs(data: bytes, start: int) -> list[tuple[int, int, int]]:
    """Type, start and stop of each TLV from `start` to the end."""
    tlvs = []
    while start < len(data):
        stop = start + 3 + int.from_bytes(data[start + 1 : start + 3], "big")
        if start + 3 > len(data) or stop > len(data):
            raise ProxyProtocolError("a TLV must end within the header")
        tlvs.append((data[start], start + 3, stop))
        start = stop
    return tlvs


def _check_crc(data: bytes, tlvs: list[tuple[int, int, int]]) -> None:
    sums = [(start, stop) for kind, start, stop in tlvs if kind == TLV.CRC32C]
    if not sums:
        return
    start, stop = sums[0]
    if len(sums) > 1 or stop - start != 4:
        raise ProxyProtocolError("there must be one checksum of 4 bytes")
    if crc32c(data[:start] + bytes(4) + data[stop:]) != int.from_bytes(data[start:stop], "big"):
        raise ProxyProtocolError("the checksum is wrong")


def _parse_ssl(value: bytes) -> TLSDetails:
    if len(value) < 5:
        raise ProxyProtocolError("the TLV of TLS must have at least 5 bytes")
    client, verify = value[0], int.from_bytes(value[1:5], "big")
    texts = {
        kind: value[start:stop].decode("utf-8", "replace") for kind, start, stop in _parse_tlvs(value, 5)
    }
    has_certificate = bool(client & 0x06)  # on this connection, or in this session
    return TLSDetails(
        bool(client & 0x01),
        has_certificate,
        has_certificate and verify == 0,
        texts.get(TLV.SSL_VERSION, ""),
        texts.get(TLV.SSL_CIPHER, ""),
        texts.get(TLV.SSL_CN, ""),
    )


def _make_crc_table() -> tuple[int, ...]:
    table = []
    for byte in range(256):
        for _ in range(8):
            byte = byte >> 1 ^ (0x82F63B78 if byte & 1 else 0)  # Castagnoli's polynomial, reflected
        table.append(byte)
    return tuple(table)


_CRC_TABLE = _make_crc_table()


def crc32c(data: bytes) -> int:
    """The CRC-32C (RFC 3720, Castagnoli) of some bytes."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc = _CRC_TABLE[(crc ^ byte) & 0xFF] ^ crc >> 8
    return crc ^ 0xFFFFFFFF


# Builders.

Endpoint = tuple[str, int]
"""An IP address and a port; for a UNIX domain socket its path (or @name) and 0."""

LOCAL = SIGNATURE + b"\x20\x00\x00\x00"
"""The header of version 2 for a connection that the proxy makes for itself."""


def build_v1(src: Endpoint | None, dst: Endpoint | None) -> bytes:
    """A header of version 1; UNKNOWN if either end is None or not an IP address.

    Where one end is IPv4 and the other IPv6, the IPv4 one is mapped. Raises ValueError for a bad port.
    """
    transport, hosts = _addresses(src, dst)
    if transport not in ("tcp4", "tcp6") or src is None or dst is None:
        return b"PROXY UNKNOWN\r\n"
    for _, port in (src, dst):
        if not 0 <= port <= 65535:
            raise ValueError(f"a port must be 0 to 65535, not {port}")
    return f"PROXY {transport.upper()} {hosts[0]} {hosts[1]} {src[1]} {dst[1]}\r\n".encode("ascii")


def build_v2(
    src: Endpoint | None,
    dst: Endpoint | None,
    *,
    datagram: bool = False,
    tlvs: Iterable[tuple[int, bytes]] = (),
    with_checksum: bool = False,
) -> bytes:
    """A header of version 2 with its TLVs; of unknown transport if either end is None.

    `datagram`: the proxied protocol is UDP, or a UNIX datagram socket. Raises ValueError for a port, path
    or TLV that does not fit.
    """
    transport, hosts = _addresses(src, dst)
    code, block = 0x00, b""
    if src is not None and dst is not None:
        code = _CODES[transport] + datagram
        try:
            if transport == "unix":
                block = _UNIX.pack(_pack_path(hosts[0]), _pack_path(hosts[1]))
            else:
                packed = [ipaddress.ip_address(host).packed for host in hosts]
                block = _LAYOUTS[code >> 4].pack(packed[0], packed[1], src[1], dst[1])
        except struct.error:
            raise ValueError(f"a port must be 0 to 65535, not {src[1]} and {dst[1]}") from None
        for kind, value in tlvs:
            block += _pack_tlv(kind, value)
        if with_checksum:
            block += _pack_tlv(TLV.CRC32C, bytes(4))
    if len(block) > 0xFFFF:
        raise ValueError(f"a header must not be larger than 65535 bytes, not {len(block)}")
    header = SIGNATURE + bytes((0x21, code)) + len(block).to_bytes(2, "big") + block
    if with_checksum and block:
        header = header[:-4] + crc32c(header).to_bytes(4, "big")
    return header


def ssl_tlv(details: TLSDetails) -> tuple[int, bytes]:
    """The TLV that tells of the client's TLS connection."""
    client = details.over_tls | (0x06 if details.has_certificate else 0)
    value = bytes((client,)) + (0 if details.is_verified else 1).to_bytes(4, "big")
    for kind, text in (
        (TLV.SSL_VERSION, details.version),
        (TLV.SSL_CIPHER, details.cipher),
        (TLV.SSL_CN, details.common_name),
    ):
        if text:
            value += _pack_tlv(kind, text.encode("utf-8", "replace"))
    return TLV.SSL, value


def _addresses(src: Endpoint | None, dst: Endpoint | None) -> tuple[Transport, tuple[str, str]]:
    """The stream transport of both ends, and their hosts in one family."""
    if src is None or dst is None:
        return "unknown", ("", "")
    try:
        one, other = ipaddress.ip_address(src[0]), ipaddress.ip_address(dst[0])
    except ValueError:
        return "unix", (src[0], dst[0])
    if one.version == other.version == 4:
        return "tcp4", (str(one), str(other))
    return "tcp6", (_as_ipv6(one), _as_ipv6(other))


def _as_ipv6(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> str:
    if isinstance(address, ipaddress.IPv4Address):
        return f"::ffff:{address}"
    return _show_ipv6(ipaddress.IPv6Address(int(address)))  # without a zone


def _pack_path(path: str) -> bytes:
    raw = path.encode("utf-8", "surrogateescape")
    if raw[:1] == b"@":
        raw = b"\0" + raw[1:]
    if len(raw) > 108:
        raise ValueError(f"the path of a socket must not be longer than 108 bytes: {path!r}")
    return raw


def _pack_tlv(kind: int, value: bytes) -> bytes:
    if not 0 <= kind <= 0xFF or len(value) > 0xFFFF:
        raise ValueError(
            f"a TLV must have a type of 0 to 255 and at most 65535 bytes, not {kind}, {len(value)}"
        )
    return bytes((kind,)) + len(value).to_bytes(2, "big") + value
