"""The PROXY protocol."""

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hemi.proxy_protocol import (
    LOCAL,
    MAX_V1,
    SIGNATURE,
    TLV,
    Header,
    Need,
    ProxyProtocolError,
    TLSDetails,
    build_v1,
    build_v2,
    crc32c,
    parse,
    ssl_tlv,
)

A4, B4 = ("192.0.2.1", 56324), ("198.51.100.7", 443)
A6, B6 = ("2001:db8::1", 56324), ("2001:db8::2", 443)


def header_of(data: bytes) -> Header:
    header = parse(data)
    assert isinstance(header, Header)
    return header


def v2(code: int, block: bytes, command: int = 0x21) -> bytes:
    return SIGNATURE + bytes((command, code)) + len(block).to_bytes(2, "big") + block


SAMPLES = [
    b"PROXY UNKNOWN\r\n",
    b"PROXY UNKNOWN ffff:f...f:ffff whatever 65535\r\n",
    b"PROXY TCP4 255.255.255.255 255.255.255.255 65535 65535\r\n",
    b"PROXY TCP6 " + b" ".join([b"ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"] * 2) + b" 65535 65535\r\n",
    build_v1(A4, B4),
    build_v1(A6, B6),
    build_v2(A4, B4),
    build_v2(A6, B6, datagram=True),
    build_v2(("/run/a.sock", 0), ("@abstract", 0)),
    build_v2(None, None),
    build_v2(A4, B4, tlvs=[(TLV.ALPN, b"h2"), (TLV.NOOP, b""), (0xE0, b"x" * 300)], with_checksum=True),
    LOCAL,
]


@pytest.mark.parametrize("data", SAMPLES)
def test_whole_byte_by_byte_and_with_a_tail(data: bytes) -> None:
    header = header_of(data)
    assert header.size == len(data)
    for size in range(len(data)):
        need = parse(data[:size])
        assert isinstance(need, Need)
        assert size < need.size <= len(data)
    for tail in (b"G", b"\r\n", b"PROXY UNKNOWN\r\n", bytes(200)):
        assert parse(data + tail) == header


def test_v1() -> None:
    header = header_of(b"PROXY TCP4 192.168.0.1 192.168.0.11 56324 443\r\n")
    assert header == Header(1, False, "tcp4", "192.168.0.1", 56324, "192.168.0.11", 443, (), 47)
    assert header.is_known
    assert header.tls is None
    header = header_of(b"PROXY TCP6 2001:DB8::0:1 ::ffff:1.2.3.4 0 1\r\n")
    assert (header.src_host, header.dst_host) == ("2001:db8::1", "::ffff:1.2.3.4")
    assert not header_of(b"PROXY UNKNOWN\r\n").is_known


@pytest.mark.parametrize(
    "data",
    [
        b"GET / HTTP/1.1\r\n",
        b"PRI * HTTP/2.0\r\n",
        b"POST",
        b"PROXY\r\n",
        b"PROXY \r\n",
        b"proxy unknown\r\n",
        b"PROXY UNKNOWNx\r\n",
        b"PROXY UNKNOWN\n",
        b"PROXY TCP4 1.2.3.4 5.6.7.8 1 2\n",
        b"PROXY TCP4  1.2.3.4 5.6.7.8 1 2\r\n",
        b"PROXY TCP4 1.2.3.4 5.6.7.8 1 2 \r\n",
        b"PROXY TCP4 1.2.3.4 5.6.7.8 1\r\n",
        b"PROXY TCP4 1.2.3 5.6.7.8 1 2\r\n",
        b"PROXY TCP4 1.2.3.04 5.6.7.8 1 2\r\n",
        b"PROXY TCP4 ::1 ::1 1 2\r\n",
        b"PROXY TCP6 1.2.3.4 5.6.7.8 1 2\r\n",
        b"PROXY TCP6 fe80::1%1 ::1 1 2\r\n",
        b"PROXY TCP4 1.2.3.4 5.6.7.8 65536 2\r\n",
        b"PROXY TCP4 1.2.3.4 5.6.7.8 01 2\r\n",
        b"PROXY TCP4 1.2.3.4 5.6.7.8 -1 2\r\n",
        b"PROXY UDP4 1.2.3.4 5.6.7.8 1 2\r\n",
        b"PROXY UNKNOWN a\rb\r\n",
        b"PROXY UNKNOWN " + b"x" * MAX_V1,
        b"\r\n\r\n\x00\r\nQUIX",
        b"\x16\x03\x01",
        b"\0",
    ],
)
def test_v1_and_garbage_are_refused(data: bytes) -> None:
    with pytest.raises(ProxyProtocolError):
        parse(data)


def test_v2_addresses() -> None:
    header = header_of(build_v2(A4, B4))
    assert (header.version, header.transport, header.is_local) == (2, "tcp4", False)
    assert (header.src_host, header.src_port, header.dst_host, header.dst_port) == (*A4, *B4)
    header = header_of(build_v2(A6, B6, datagram=True))
    assert (header.transport, header.src_host, header.dst_host) == ("udp6", A6[0], B6[0])
    header = header_of(build_v2(("/run/a.sock", 0), ("@name", 0), datagram=True))
    assert (header.transport, header.src_host, header.dst_host) == ("unixgram", "/run/a.sock", "@name")
    header = header_of(build_v2(A4, B6))
    assert (header.transport, header.src_host) == ("tcp6", "::ffff:192.0.2.1")


def test_v2_local_and_unspecified_say_nothing() -> None:
    header = header_of(LOCAL)
    assert header.is_local
    assert not header.is_known
    assert header_of(v2(0x11, b"\1\2\3\4", command=0x20)).is_local
    header = header_of(v2(0x00, b"whatever"))
    assert (header.transport, header.is_known, header.src_host) == ("unknown", False, "")


def test_v2_tlvs() -> None:
    details = TLSDetails(True, True, True, "TLSv1.3", "TLS_AES_128_GCM_SHA256", "client é")
    tlvs = [
        (TLV.ALPN, b"h2"),
        (TLV.AUTHORITY, b"example.com"),
        (TLV.UNIQUE_ID, b"i" * 128),
        ssl_tlv(details),
        (TLV.NETNS, b"ns"),
    ]
    header = header_of(build_v2(A4, B4, tlvs=tlvs, with_checksum=True))
    assert (header.alpn, header.authority, header.tls) == ("h2", "example.com", details)
    assert header.tlv(TLV.NETNS) == b"ns"
    assert header.tlv(0xEE) is None
    assert header.tlvs[-1][0] == TLV.CRC32C
    plain = header_of(build_v2(A4, B4))
    assert (plain.alpn, plain.authority, plain.tls) == ("", "", None)


def test_a_certificate_counts_as_verified_only_if_there_is_one() -> None:
    def tls(client: int, verify: int) -> TLSDetails | None:
        return header_of(build_v2(A4, B4, tlvs=[(TLV.SSL, bytes((client,)) + verify.to_bytes(4, "big"))])).tls

    assert tls(1, 0) == TLSDetails(True, False, False, "", "", "")
    assert tls(3, 0) == TLSDetails(True, True, True, "", "", "")
    assert tls(5, 1) == TLSDetails(True, True, False, "", "", "")


INET = struct.pack("!4s4sHH", b"\1\2\3\4", b"\5\6\7\x08", 1, 2)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (v2(0x11, INET, command=0x11), "version and command"),
        (v2(0x11, INET, command=0x22), "version and command"),
        (v2(0x10, INET), "address family"),
        (v2(0x13, INET), "address family"),
        (v2(0x41, INET), "address family"),
        (v2(0x11, INET[:-1]), "12 bytes"),
        (v2(0x21, INET), "36 bytes"),
        (v2(0x31, INET), "216 bytes"),
        (v2(0x11, INET + b"\x01"), "TLV"),
        (v2(0x11, INET + b"\x01\x00"), "TLV"),
        (v2(0x11, INET + b"\x01\x00\x02h"), "TLV"),
        (v2(0x11, INET + b"\x20\x00\x04\x01\x00\x00\x00"), "TLS"),
        (v2(0x11, INET + b"\x20\x00\x07\x01\x00\x00\x00\x00\x21\x00"), "TLV"),
        (v2(0x11, INET + b"\x05\x00\x81" + bytes(129)), "unique id"),
        (v2(0x11, INET + b"\x03\x00\x04abcd"), "checksum is wrong"),
        (v2(0x11, INET + b"\x03\x00\x03abc"), "one checksum"),
        (v2(0x11, INET + b"\x03\x00\x04abcd" * 2), "one checksum"),
        (v2(0x11, INET + bytes(20000)), "larger"),
        (SIGNATURE + b"\x21\x11\xff\xff", "larger"),
    ],
)
def test_v2_refuses(data: bytes, message: str) -> None:
    with pytest.raises(ProxyProtocolError, match=message):
        parse(data)


def test_every_changed_bit_breaks_the_checksum() -> None:
    data = build_v2(A4, B4, tlvs=[(TLV.ALPN, b"h2")], with_checksum=True)
    for place in range(16, 28):
        with pytest.raises(ProxyProtocolError):
            parse(data[:place] + bytes((data[place] ^ 1,)) + data[place + 1 :])


def test_crc32c_of_rfc_3720() -> None:
    assert crc32c(b"123456789") == 0xE3069283
    assert crc32c(bytes(32)) == 0x8A9136AA
    assert crc32c(b"\xff" * 32) == 0x62A8AB43


def test_builders_refuse() -> None:
    for build in (build_v1, build_v2):
        with pytest.raises(ValueError, match="port"):
            build(("1.2.3.4", 65536), B4)
    with pytest.raises(ValueError, match="path"):
        build_v2(("/" + "a" * 108, 0), ("", 0))
    with pytest.raises(ValueError, match="TLV"):
        build_v2(A4, B4, tlvs=[(256, b"")])
    with pytest.raises(ValueError, match="larger"):
        build_v2(A4, B4, tlvs=[(1, bytes(65535))])
    assert build_v1(None, B4) == build_v1(("/a.sock", 0), ("/b.sock", 0)) == b"PROXY UNKNOWN\r\n"


_ENDS = st.tuples(st.ip_addresses(v=4), st.ip_addresses(v=4)) | st.tuples(
    st.ip_addresses(v=6), st.ip_addresses(v=6)
)
_PORTS = st.integers(0, 65535)


@given(
    _ENDS, _PORTS, _PORTS, st.lists(st.tuples(st.integers(0xE0, 0xEF), st.binary(max_size=20))), st.booleans()
)
def test_headers_round_trip(
    ends: tuple[object, object],
    src_port: int,
    dst_port: int,
    tlvs: list[tuple[int, bytes]],
    with_checksum: bool,
) -> None:
    src, dst = (str(ends[0]), src_port), (str(ends[1]), dst_port)
    for data in (build_v1(src, dst), build_v2(src, dst, tlvs=tlvs, with_checksum=with_checksum)):
        header = header_of(data)
        again = build_v1 if header.version == 1 else build_v2
        ours = [one for one in header.tlvs if one[0] != TLV.CRC32C]
        more = {} if header.version == 1 else {"tlvs": ours, "with_checksum": with_checksum}
        assert again((header.src_host, header.src_port), (header.dst_host, header.dst_port), **more) == data
        assert ours == ([] if header.version == 1 else tlvs)


@given(st.binary(max_size=80) | st.binary(max_size=80).map(lambda tail: b"PROXY TCP4 " + tail))
def test_only_raises_its_own_error(data: bytes) -> None:
    try:
        result = parse(data)
    except ProxyProtocolError:
        return
    assert isinstance(result, Need | Header)


@given(
    st.sampled_from([0x20, 0x21]), st.sampled_from([0, 0x11, 0x12, 0x21, 0x31, 0x99]), st.binary(max_size=300)
)
def test_only_raises_its_own_error_on_v2(command: int, code: int, block: bytes) -> None:
    for data in (v2(code, block, command), v2(0x11, INET + block, command), v2(0x11, INET + b"\x20" + block)):
        try:
            header = parse(data)
        except ProxyProtocolError:
            continue
        assert isinstance(header, Header)
        assert header.alpn is not None
        assert header.tls is None or isinstance(header.tls, TLSDetails)
