"""The reader of ClientHello messages: real ones whole, byte by byte and in small records, and broken ones."""

from __future__ import annotations

import ssl
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hemi.tlshello import MAX_HELLO, MAX_RAW, HelloReader, MalformedHello


def real_hello(name: str | None = "Shop.Example.COM", alpn: tuple[str, ...] = ("h2", "http/1.1")) -> bytes:
    """What OpenSSL sends as a client."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    if alpn:
        context.set_alpn_protocols(alpn)
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = context.wrap_bio(incoming, outgoing, server_hostname=name)
    with pytest.raises(ssl.SSLWantReadError):
        client.do_handshake()
    return outgoing.read()


def record(body: bytes, kind: int = 0x16) -> bytes:
    return bytes([kind, 3, 1]) + len(body).to_bytes(2, "big") + body


def vector(width: int, body: bytes) -> bytes:
    return len(body).to_bytes(width, "big") + body


def extension(kind: int, body: bytes) -> bytes:
    return kind.to_bytes(2, "big") + vector(2, body)


def sni(name: bytes) -> bytes:
    return extension(0, vector(2, b"\0" + vector(2, name)))


def hello(extensions: bytes | None, tail: bytes = b"") -> bytes:
    body = b"\3\3" + bytes(32) + vector(1, b"") + vector(2, b"\x13\x01") + vector(1, b"\0")
    if extensions is not None:
        body += vector(2, extensions)
    return b"\1" + vector(3, body + tail)


def read(data: bytes) -> HelloReader:
    reader = HelloReader()
    assert reader.feed(data)
    return reader


def test_a_real_one_whole() -> None:
    reader = read(real_hello())
    assert reader.server_name == "shop.example.com"
    assert reader.alpn() == [b"h2", b"http/1.1"]


def test_a_real_one_byte_by_byte() -> None:
    data = real_hello()
    reader = HelloReader()
    for byte in data[:-1]:
        assert not reader.feed(bytes([byte]))
    assert reader.feed(data[-1:])
    assert reader.server_name == "shop.example.com"
    assert bytes(reader.raw) == data


def test_a_real_one_with_a_tail() -> None:
    data = real_hello() + record(b"\1", 0x14) + b"early"
    assert bytes(read(data).raw) == data


@pytest.mark.parametrize("size", [1, 3, 4, 5, 100])
def test_a_real_one_in_records_of(size: int) -> None:
    message = real_hello()[5:]
    data = b"".join(record(message[at : at + size]) for at in range(0, len(message), size))
    assert read(data).server_name == "shop.example.com"


def test_without_a_name_and_without_extensions() -> None:
    assert read(real_hello(None, ())).server_name == ""
    suites = read(real_hello(None, ())).suites
    assert b"\x13\x01" in [suites[at : at + 2] for at in range(0, len(suites), 2)], "TLS_AES_128_GCM_SHA256"
    assert read(record(hello(None))).server_name == ""
    assert read(record(hello(b""))).server_name == ""


def test_a_dot_at_the_end_is_not_part_of_the_name() -> None:
    assert read(record(hello(sni(b"a.example.")))).server_name == "a.example"


@pytest.mark.parametrize(
    "data",
    [
        b"GET / HTTP/1.1\r\n",
        record(b"\2" + vector(3, bytes(50))),  # a ServerHello
        record(b""),
        b"\x16\x03\x01\xff\xff",
        record(b"\1\xff\xff\xff"),  # longer than allowed
        record(hello(sni(b"a.example")) + b"x"),
        record(hello(sni(b"a.example"), b"x")),
        record(hello(sni(b"a") + sni(b"b"))),
        record(hello(sni(b""))),
        record(hello(sni(b"\xff"))),
        record(hello(sni(b"a\0b"))),
        record(hello(sni(b"a\r\nb"))),
        record(hello(sni(b"a" * 256))),
        record(hello(extension(0, vector(2, b"\1" + vector(2, b"a"))))),  # no host_name
        record(hello(extension(0, b""))),
        record(hello(extension(0, vector(2, b"\0" + vector(2, b"a") + b"\0" + vector(2, b"b"))))),
        record(hello(extension(16, b"\0\1\0"))),
        record(hello(extension(16, b"\0\5\2h2"))),
        record(hello(b"\0\0\0\7ab")),
        record(hello(b"\0")),
        record(b"\1" + vector(3, b"\3\3" + bytes(10))),
    ],
)
def test_malformed(data: bytes) -> None:
    with pytest.raises(MalformedHello):
        reader = HelloReader()
        assert reader.feed(data)
        reader.alpn()


def test_endless_small_records_end() -> None:
    reader = HelloReader()
    start = b"\1" + (MAX_HELLO - 4).to_bytes(3, "big")
    assert not reader.feed(record(start))
    with pytest.raises(MalformedHello):
        for _ in range(MAX_RAW):
            assert not reader.feed(record(b"\0"))


@given(st.data())
def test_mutations_are_read_or_refused(data: st.DataObject) -> None:
    message = bytearray(hello(sni(b"a.example") + extension(16, vector(2, vector(1, b"h2")))))
    for _ in range(data.draw(st.integers(1, 4))):
        message[data.draw(st.integers(0, len(message) - 1))] = data.draw(st.integers(0, 255))
    with suppress(MalformedHello):
        reader = HelloReader()
        reader.feed(record(bytes(message)))
        reader.alpn()


@given(st.binary(max_size=300))
def test_noise_is_waited_for_or_refused(noise: bytes) -> None:
    with suppress(MalformedHello):
        HelloReader().feed(b"\x16\x03\x01" + noise)
