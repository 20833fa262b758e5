"""Frames and messages (RFC 6455 §5): bytes in, messages out, and the other way round. No sockets, no clocks.

wsproto's frame layer takes 26 µs for a small message there and back, this one 4; and it bounds nothing: neither a
frame, nor a message, nor what one inflates to. So framing is done here; wsproto negotiates the extension
(`hemi.web.websocket.deflate`), and is the other side in the tests.

Laws of this module:
- What a message comes to is bounded while it is read: by its head before a byte of it is kept, and while it inflates.
- Bad UTF-8 is found in the piece that has it, not at the end of the message.
- Memory follows the bytes that came, not the number of pieces that they came in.
"""

from __future__ import annotations

import codecs
from collections.abc import Callable
from typing import Any, NamedTuple

__all__ = [
    "BINARY",
    "CLOSE",
    "PING",
    "PONG",
    "TEXT",
    "Control",
    "Decoder",
    "Failure",
    "build_frame",
    "close_payload",
    "frame_head",
    "parse_close",
    "unmask",
]

CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG = 0, 1, 2, 8, 9, 10
FIN, RSV1 = 0x80, 0x40
MASKED = 0x80

NO_STATUS, PROTOCOL_ERROR, INVALID_DATA, POLICY_VIOLATION, TOO_BIG = 1005, 1002, 1007, 1008, 1009
"""Of what a connection ends (RFC 6455 §7.4.1)."""

MAX_REASON = 123
"""Bytes of the reason in a close frame (RFC 6455 §5.5)."""

TINY = 16
FREE_FRAGMENTS = 1024
"""A message may have so many fragments whatever their size, and more if they have so many bytes on average: fragments
of a byte, or none, cost as much as others and say nothing."""

_EACH = int.from_bytes(bytes(range(256)))
_TRANSLATIONS = [(_EACH ^ int.from_bytes(bytes((mask,)) * 256)).to_bytes(256) for mask in range(256)]
_LITTLE = 384
"""Up to this size a payload is unmasked as one number: 1.3 µs for 125 bytes, where four translations take 1.9; of
64 KiB these take 106 µs, and the number 282. The C function of the websockets package, where there is one (the extra
"websocket"), takes 3."""
_HEADS = {
    first: [bytes((first, size)) for size in range(126)]
    for first in (FIN | TEXT, FIN | BINARY, FIN | CLOSE, FIN | PING, FIN | PONG)
}

SENDABLE = frozenset({1000, 1001, 1002, 1003, *range(1007, 1015)})
"""Codes below 3000 that a close frame may have (RFC 6455 §7.4, and IANA's registry)."""


class Failure(Exception):
    """What the peer did that ends the connection, with the code that tells it (RFC 6455 §7.1.7)."""

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(f"{code} {reason}")
        self.code = int(code)
        self.reason = reason


class Control(NamedTuple):
    """A control frame."""

    opcode: int
    payload: bytes


def unmask(data: bytes, key: bytes) -> bytes:
    """Data with the masking key on it or off it (RFC 6455 §5.3)."""
    size = len(data)
    if size <= _LITTLE:
        mask = (key * ((size + 3) >> 2))[:size]
        return (int.from_bytes(data, "little") ^ int.from_bytes(mask, "little")).to_bytes(size, "little")
    return _unmask_large(data, key)


def _translate(data: bytes, key: bytes) -> bytes:
    result = bytearray(len(data))
    for at in range(4):
        result[at::4] = data[at::4].translate(_TRANSLATIONS[key[at]])
    return bytes(result)


def _choose(data: bytes, key: bytes) -> bytes:
    """The first large payload: finds out what unmasks them."""
    global _unmask_large
    try:
        from websockets.speedups import apply_mask
    except ImportError:  # not installed, or without its C part
        _unmask_large = _translate
    else:
        _unmask_large = apply_mask
    return _unmask_large(data, key)


_unmask_large: Callable[[bytes, bytes], bytes] = _choose


def frame_head(first: int, size: int) -> bytes:
    """The head of an unmasked frame; `first` is its first byte."""
    if size < 126:
        return bytes((first, size))
    if size < 65536:
        return bytes((first, 126)) + size.to_bytes(2)
    return bytes((first, 127)) + size.to_bytes(8)


def build_frame(opcode: int, payload: bytes, compressed: bool = False) -> bytes:
    """A whole message, or a control frame, as one unmasked frame."""
    size = len(payload)
    if size < 126 and not compressed:
        return _HEADS[FIN | opcode][size] + payload
    return frame_head(FIN | opcode | (RSV1 if compressed else 0), size) + payload


def close_payload(code: int, reason: str) -> bytes:
    """The payload of a close frame. Raises ValueError for what must not be sent (RFC 6455 §7.4.1, §5.5)."""
    if code not in SENDABLE and not 3000 <= code <= 4999:
        raise ValueError(f"a close code must be 1000 to 1003, 1007 to 1014 or 3000 to 4999, not {code!r}")
    data = reason.encode()
    if len(data) > MAX_REASON:
        raise ValueError(f"the reason must not have more than {MAX_REASON} bytes, not {len(data)}")
    return code.to_bytes(2) + data


def parse_close(payload: bytes) -> tuple[int, str]:
    """Code and reason of a close frame; 1005 when it has none. Raises Failure."""
    if not payload:
        return NO_STATUS, ""
    code = int.from_bytes(payload[:2])
    if len(payload) < 2 or (code not in SENDABLE and not 3000 <= code <= 4999):
        raise Failure(PROTOCOL_ERROR, "a close code that must not be sent")
    try:
        return code, payload[2:].decode()
    except UnicodeDecodeError:
        raise Failure(INVALID_DATA, "the reason is not UTF-8") from None


class Decoder:
    """What a peer sends. `feed` it, then call `next` until it returns None.

    `max_frame` and `max_message` are in bytes, the latter of what a compressed message comes to. `inflater` is None
    without permessage-deflate. A server's peer must mask, a client's must not (RFC 6455 §5.1).
    """

    __slots__ = (
        "_at",
        "_code",
        "_compressed",
        "_data",
        "_fin",
        "_fragments",
        "_inflater",
        "_key",
        "_kind",
        "_masked",
        "_message",
        "_phase",
        "_taken",
        "_utf8",
        "max_frame",
        "max_message",
        "missing",
    )

    def __init__(self, max_frame: int, max_message: int, inflater: Any = None, masked: bool = True) -> None:
        self.max_frame = max_frame
        self.max_message = max_message
        self.missing = 0
        """Bytes of the payload of a frame that has begun."""
        self._masked = masked
        self._inflater = inflater
        self._data = b""
        self._at = 0
        self._kind = 0
        """TEXT or BINARY while a message is under way."""
        self._compressed = False
        self._message: bytearray | None = None
        self._utf8: Any = None
        self._taken = 0
        """Bytes of this message that came over the wire."""
        self._fragments = 0
        self._fin = False
        self._key = b""
        self._phase = 0
        """Where in the masking key the next byte is."""
        self._code = 0

    def __repr__(self) -> str:
        return f"<Decoder missing={self.missing} pending={len(self._data) - self._at}>"

    def feed(self, data: bytes) -> None:
        """Takes what has come."""
        self._data = self._data[self._at :] + data if self._at < len(self._data) else data
        self._at = 0

    def next(self) -> str | bytes | Control | None:
        """The next message or control frame; None when more must come first. Raises Failure."""
        data, at = self._data, self._at
        have = len(data) - at
        if have > 6 and not self.missing and not self._kind and self._masked:
            first, size = data[at], data[at + 1] - MASKED
            if 0 <= size < 126 and have >= size + 6 and (first == 0x81 or first == 0x82):
                # A small message in one frame, which most are; size is not beyond limits that make sense.
                start = at + 6
                self._at = end = start + size
                mask = (data[at + 2 : start] * ((size + 3) >> 2))[:size]
                payload = (
                    int.from_bytes(data[start:end], "little") ^ int.from_bytes(mask, "little")
                ).to_bytes(size, "little")
                if size > self.max_message or size > self.max_frame:
                    raise _too_big()
                if first == 0x82:
                    return payload
                try:
                    return payload.decode()
                except UnicodeDecodeError:
                    raise _not_utf8() from None
        while True:
            if not self.missing:
                control = self._read_head()
                if control is None:
                    return None
                if control.__class__ is Control:
                    return control
            if self.missing:
                self._read_payload()
                if self.missing:
                    return None
            if self._fin:
                return self._end_message()

    # Frames

    def _read_head(self) -> Control | bool | None:
        """Reads the head of a frame; of a control frame, all of it. None when it is not here yet."""
        data, at = self._data, self._at
        have = len(data) - at
        if have < 2:
            return None
        first, size = data[at], data[at + 1] & 0x7F
        masked, opcode = bool(data[at + 1] & MASKED), first & 0x0F
        self._check_head(first, opcode, size, masked)
        start = at + 2
        if size >= 126:
            width = 2 if size == 126 else 8
            if have < 2 + width:
                return None
            start += width
            size = int.from_bytes(data[at + 2 : start])
            if size < (126 if width == 2 else 65536) or size >> 63:
                raise _wrong("a length that is not in its shortest form")
        if masked:
            start += 4
        if len(data) < start:
            return None
        self._key = data[start - 4 : start]
        if opcode >= CLOSE:
            if len(data) < start + size:
                return None
            payload = data[start : start + size]
            self._at = start + size
            return Control(opcode, unmask(payload, self._key) if masked else payload)
        self._at = start
        self._begin_frame(first, opcode, size)
        return True

    def _check_head(self, first: int, opcode: int, size: int, masked: bool) -> None:
        """Refuses heads that must not be (RFC 6455 §5.1, §5.2, §5.4, §5.5)."""
        if masked is not self._masked:
            raise _wrong("a frame that is not masked" if self._masked else "a masked frame of a server")
        if first & 0x30:
            raise _wrong("reserved bits are set")
        if first & RSV1 and (self._inflater is None or opcode not in (TEXT, BINARY)):
            raise _wrong("a bit is set that nothing was agreed on for")
        if opcode >= CLOSE:
            if opcode > PONG:
                raise _wrong("an unknown opcode")
            if size > 125 or not first & FIN:
                raise _wrong("a control frame that is too large or in fragments")
        elif opcode > BINARY:
            raise _wrong("an unknown opcode")
        elif (opcode == CONTINUATION) != bool(self._kind):
            raise _wrong("a fragment without a beginning" if not opcode else "a message within a message")

    def _begin_frame(self, first: int, opcode: int, size: int) -> None:
        if opcode:
            self._kind = opcode
            self._compressed = bool(first & RSV1)
            self._taken = self._fragments = 0
            if self._compressed:
                self._inflater.begin()
        self._fin = bool(first & FIN)
        self._fragments += 1
        self._taken += size
        if size > self.max_frame or (not self._compressed and self._taken > self.max_message):
            raise _too_big()
        if self._fragments > FREE_FRAGMENTS and self._taken < self._fragments * TINY:
            raise Failure(POLICY_VIOLATION, "too many tiny fragments")
        self.missing = size
        self._phase = 0

    def _read_payload(self) -> None:
        """Takes what is here of the payload: unmasked, inflated, checked."""
        data, at, missing = self._data, self._at, self.missing
        piece = data[at : at + missing]
        size = len(piece)
        self._at = at + size
        self.missing = missing - size
        if self._masked and size:
            key, phase = self._key, self._phase
            piece = unmask(piece, key[phase:] + key[:phase] if phase else key)
            self._phase = (phase + size) & 3
        if self._compressed:
            have = len(self._message) if self._message is not None else 0
            piece = self._inflater.update(piece, self.max_message - have)
        if self._message is None:
            if self._fin and not self.missing and not self._compressed:
                self._message = piece  # type: ignore[assignment]  # the message is this piece
                return
            self._message = bytearray()
        self._message += piece
        if self._kind == TEXT:
            self._check_utf8(piece, False)

    def _check_utf8(self, piece: bytes, final: bool) -> None:
        if self._utf8 is None:
            self._utf8 = codecs.getincrementaldecoder("utf-8")()
        try:
            self._utf8.decode(piece, final)
        except UnicodeDecodeError:
            raise _not_utf8() from None

    def _end_message(self) -> str | bytes:
        message: Any = self._message
        if self._compressed:
            rest = self._inflater.finish(self.max_message - (len(message) if message is not None else 0))
            message = (message or b"") + rest
        kind, self._kind = self._kind, 0
        self._message = self._utf8 = None
        if message is None:
            message = b""
        if kind == BINARY:
            return bytes(message)
        try:
            return str(message, "utf-8")
        except UnicodeDecodeError:
            raise _not_utf8() from None


def _wrong(what: str) -> Failure:
    return Failure(PROTOCOL_ERROR, what)


def _too_big() -> Failure:
    return Failure(TOO_BIG, "the message is too big")


def _not_utf8() -> Failure:
    return Failure(INVALID_DATA, "the text is not UTF-8")
