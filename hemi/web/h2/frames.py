"""Frames as bytes: their layout, what each kind demands, and how those that we send are written (RFC 9113 §4, §6).

Pure functions and one table; no state of a connection or stream in here. The hottest path, taking the 9 bytes in front
of a frame apart, is written out in the connection's loop with `HEADER` from here.
"""

from __future__ import annotations

from struct import Struct
from typing import NamedTuple

from hemi.web.h2.errors import FRAME_SIZE_ERROR, PROTOCOL_ERROR, ConnectionFault, StreamFault

DATA = 0x0
HEADERS = 0x1
PRIORITY = 0x2
RST_STREAM = 0x3
SETTINGS = 0x4
PUSH_PROMISE = 0x5
PING = 0x6
GOAWAY = 0x7
WINDOW_UPDATE = 0x8
CONTINUATION = 0x9
PRIORITY_UPDATE = 0x10

END_STREAM = 0x1
ACK = 0x1
END_HEADERS = 0x4
PADDED = 0x8
WITH_PRIORITY = 0x20

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
"""What a client sends first (RFC 9113 §3.4)."""

HEADER = Struct(">IBI")
"""Length (24 bits) and type (8), flags, stream identifier with a reserved bit."""
HEADER_SIZE = 9
pack_header = HEADER.pack

WORD = Struct(">I")
LAST_ID = 0x7FFFFFFF
MAX_WINDOW = 0x7FFFFFFF
LEAST_FRAME = 16384
MOST_FRAME = 0xFFFFFF


class Kind(NamedTuple):
    """What a type of frame demands. `where` is "stream", "connection" (stream 0) or "both"; a wrong size is an error of
    the stream where `mild` is set, else of the connection (RFC 9113 §4.2)."""

    name: str
    least: int
    most: int
    where: str
    mild: bool = False


KINDS: dict[int, Kind] = {
    DATA: Kind("DATA", 0, MOST_FRAME, "stream"),
    HEADERS: Kind("HEADERS", 0, MOST_FRAME, "stream"),
    PRIORITY: Kind("PRIORITY", 5, 5, "stream", mild=True),
    RST_STREAM: Kind("RST_STREAM", 4, 4, "stream"),
    SETTINGS: Kind("SETTINGS", 0, MOST_FRAME, "connection"),
    PUSH_PROMISE: Kind("PUSH_PROMISE", 4, MOST_FRAME, "stream"),
    PING: Kind("PING", 8, 8, "connection"),
    GOAWAY: Kind("GOAWAY", 8, MOST_FRAME, "connection"),
    WINDOW_UPDATE: Kind("WINDOW_UPDATE", 4, 4, "both"),
    CONTINUATION: Kind("CONTINUATION", 0, MOST_FRAME, "stream"),
    PRIORITY_UPDATE: Kind("PRIORITY_UPDATE", 4, MOST_FRAME, "connection"),
}


def check(kind: Kind, sid: int, size: int) -> None:
    """Holds a frame against the table. Raises ConnectionFault, StreamFault."""
    where = kind.where
    if where == "stream" and not sid:
        raise ConnectionFault(PROTOCOL_ERROR, f"{kind.name} on stream 0")
    if where == "connection" and sid:
        raise ConnectionFault(PROTOCOL_ERROR, f"{kind.name} on stream {sid}")
    if not kind.least <= size <= kind.most:
        text = f"{kind.name} of {size} bytes"
        if kind.mild:
            raise StreamFault(sid, FRAME_SIZE_ERROR, text)
        raise ConnectionFault(FRAME_SIZE_ERROR, text)


# Payloads that have come


def unpad(flags: int, payload: bytes) -> bytes:
    """The payload of DATA or HEADERS without padding. Raises ConnectionFault when that is longer than the rest."""
    if not flags & PADDED:
        return payload
    if not payload:
        raise ConnectionFault(FRAME_SIZE_ERROR, "a padded frame without a pad length")
    size = payload[0]
    if size >= len(payload):
        raise ConnectionFault(PROTOCOL_ERROR, "more padding than payload")
    return payload[1 : len(payload) - size]


def split_headers(sid: int, flags: int, payload: bytes) -> bytes:
    """The fragment of the field block in HEADERS: without padding and the old priority, which is looked at only to
    refuse a stream that depends on itself (RFC 9113 §5.3.2, RFC 7540 §5.3.1)."""
    block = unpad(flags, payload)
    if flags & WITH_PRIORITY:
        if len(block) < 5:
            raise ConnectionFault(FRAME_SIZE_ERROR, "HEADERS without room for its priority")
        if word_of(block) & LAST_ID == sid:
            raise ConnectionFault(PROTOCOL_ERROR, f"stream {sid} depends on itself")
        block = block[5:]
    return block


def check_dependency(sid: int, payload: bytes) -> None:
    """Refuses a stream that depends on itself."""
    if word_of(payload) & LAST_ID == sid:
        raise StreamFault(sid, PROTOCOL_ERROR, "the stream depends on itself")


def word_of(payload: bytes) -> int:
    """The first four bytes as a number."""
    return int.from_bytes(payload[:4], "big")


# Frames to be sent


def frame(kind: int, flags: int, sid: int, payload: bytes = b"") -> bytes:
    """A frame."""
    return pack_header(len(payload) << 8 | kind, flags, sid) + payload


def headers_frames(sid: int, block: bytes, flags: int, most: int) -> bytes:
    """A field block as HEADERS, with CONTINUATION behind it where frames must not be larger than `most` bytes."""
    size = len(block)
    if size <= most:
        return pack_header(size << 8 | HEADERS, flags | END_HEADERS, sid) + block
    pieces = [pack_header(most << 8 | HEADERS, flags, sid), block[:most]]
    for at in range(most, size, most):
        piece = block[at : at + most]
        last = END_HEADERS if at + most >= size else 0
        pieces += (pack_header(len(piece) << 8 | CONTINUATION, last, sid), piece)
    return b"".join(pieces)


def reset_frame(sid: int, code: int) -> bytes:
    """RST_STREAM."""
    return frame(RST_STREAM, 0, sid, WORD.pack(code))


def window_frame(sid: int, increment: int) -> bytes:
    """WINDOW_UPDATE."""
    return frame(WINDOW_UPDATE, 0, sid, WORD.pack(increment))


def goaway_frame(last_id: int, code: int, text: str = "") -> bytes:
    """GOAWAY; the text is for who debugs the other end."""
    return frame(GOAWAY, 0, 0, WORD.pack(last_id) + WORD.pack(code) + text.encode("utf-8", "replace")[:256])
