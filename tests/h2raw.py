"""A client that sends the HTTP/2 frames it is told and reads what comes: for what no client should do."""

from __future__ import annotations

import struct
from collections.abc import Iterable
from typing import Any, NamedTuple

from gevent import ssl
from hpack import Decoder, Encoder

from tests.webkit import Site, dial

DATA, HEADERS, PRIORITY, RST_STREAM, SETTINGS, PUSH_PROMISE, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = (
    range(10)
)
PRIORITY_UPDATE = 16
END_STREAM, ACK, END_HEADERS, PADDED, WITH_PRIORITY = 1, 1, 4, 8, 32
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"

NO_ERROR, PROTOCOL_ERROR, INTERNAL_ERROR, FLOW_CONTROL_ERROR, SETTINGS_TIMEOUT, STREAM_CLOSED = range(6)
FRAME_SIZE_ERROR, REFUSED_STREAM, CANCEL, COMPRESSION_ERROR, CONNECT_ERROR, ENHANCE_YOUR_CALM = range(6, 12)

GET = [(":method", "GET"), (":scheme", "http"), (":path", "/"), (":authority", "a.example")]
POST = [(":method", "POST"), *GET[1:]]


class Frame(NamedTuple):
    """A frame that came."""

    kind: int
    flags: int
    sid: int
    payload: bytes

    @property
    def code(self) -> int:
        """The error code of RST_STREAM or GOAWAY."""
        return int.from_bytes(self.payload[:4] if self.kind == RST_STREAM else self.payload[4:8], "big")


class Ended(Exception):
    """The connection has ended."""


def frame(kind: int, flags: int = 0, sid: int = 0, payload: bytes = b"") -> bytes:
    """A frame as bytes."""
    return struct.pack(">IBI", len(payload) << 8 | kind, flags, sid) + payload


def word(number: int) -> bytes:
    """Four bytes."""
    return struct.pack(">I", number)


def settings(*pairs: tuple[int, int]) -> bytes:
    """SETTINGS."""
    return frame(SETTINGS, 0, 0, b"".join(struct.pack(">HI", key, value) for key, value in pairs))


class RawClient:
    """One connection; `begin` does what a client must do first."""

    def __init__(
        self, site: Site, begin: bool = True, pairs: Iterable[tuple[int, int]] = (), **more: Any
    ) -> None:
        self.sock = dial(site.address, **more)
        self.encoder, self.decoder = Encoder(), Decoder(1 << 20)
        self.buffer = b""
        self.settings: dict[int, int] = {}
        if begin:
            self.sock.sendall(PREFACE + settings(*pairs))
            first = self.frame()
            assert first.kind == SETTINGS and not first.flags & ACK
            self.settings = dict(struct.iter_unpack(">HI", first.payload))
            self.sock.sendall(frame(SETTINGS, ACK))
            while (one := self.frame()).kind != SETTINGS:
                pass
            assert one.flags & ACK

    def __enter__(self) -> RawClient:
        return self

    def __exit__(self, *exc: object) -> None:
        self.sock.close()

    def send(self, *frames: bytes) -> None:
        """Sends bytes; that the server has ended the connection shows when its answer is read."""
        try:
            self.sock.sendall(b"".join(frames))
        except OSError:
            pass

    def block(self, fields: Iterable[tuple[str, str]]) -> bytes:
        """A field block."""
        return bytes(self.encoder.encode(list(fields)))

    def headers(
        self, sid: int, fields: Iterable[tuple[str, str]] = GET, flags: int = END_STREAM | END_HEADERS
    ) -> bytes:
        """HEADERS."""
        return frame(HEADERS, flags, sid, self.block(fields))

    # What comes

    def exactly(self, size: int) -> bytes:
        """The next bytes. Raises Ended."""
        while len(self.buffer) < size:
            try:
                data = self.sock.recv(65536)
            except (ConnectionResetError, ssl.SSLError):
                data = b""
            if not data:
                raise Ended
            self.buffer += data
        data, self.buffer = self.buffer[:size], self.buffer[size:]
        return data

    def frame(self) -> Frame:
        """The next frame. Raises Ended."""
        header, flags, sid = struct.unpack(">IBI", self.exactly(9))
        return Frame(header & 0xFF, flags, sid, self.exactly(header >> 8))

    def until(self, kind: int, sid: int | None = None) -> Frame:
        """The next frame of this kind; those before it are dropped. Raises Ended."""
        while True:
            one = self.frame()
            if one.kind == kind and (sid is None or one.sid == sid):
                return one

    def response(self, sid: int) -> tuple[dict[str, str], bytes]:
        """The response on a stream. Other frames are dropped, but for errors, which are raised."""
        fields: dict[str, str] = {}
        content = b""
        while True:
            one = self.frame()
            if one.kind == GOAWAY and one.code:
                raise AssertionError(f"GOAWAY with {one.code}: {one.payload[8:]!r}")
            if one.kind == RST_STREAM and one.sid == sid:
                raise AssertionError(f"the stream was reset: {one.code}")
            if one.kind == HEADERS:
                assert one.flags & END_HEADERS
                pairs = self.decoder.decode(one.payload)
                if one.sid == sid and pairs[0][1][0] != "1":
                    fields = dict(pairs) | fields
            if one.kind == DATA and one.sid == sid:
                content += one.payload
            if one.sid == sid and one.flags & END_STREAM and one.kind in (HEADERS, DATA):
                return fields, content

    def ping(self) -> None:
        """A round trip. Raises Ended."""
        self.send(frame(PING, 0, 0, b"roundtri"))
        while True:
            one = self.frame()
            if one.kind == PING and one.flags & ACK and one.payload == b"roundtri":
                return
            assert one.kind != GOAWAY, f"GOAWAY with {one.code}: {one.payload[8:]!r}"

    def goaway(self) -> Frame:
        """The error that ends the connection, and the end behind it."""
        one = self.until(GOAWAY)
        try:
            while True:
                self.frame()
        except Ended:
            return one

    def is_alive(self) -> bool:
        """Whether the connection still serves."""
        self.ping()
        return True
