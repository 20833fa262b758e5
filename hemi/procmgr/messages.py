"""Framed messages: what goes over admConn, between leader and worker, and over cmdui, between operator and leader.

A frame is a head of 8 bytes, the magic "GRX1" and the size of the body (32 bits, big endian), and a body: one JSON
object in UTF-8. The magic tells a stranger (a browser, a port scanner) by the first bytes. Who receives sets a limit on
the body's size, small until the other side has proved who it is; a head that says more is refused before the body is
read. No sockets and no clocks here; the channels feed what they receive.
"""

from __future__ import annotations

import json
import struct
from typing import Any

__all__ = ["GREETING_LIMIT", "LIMIT", "Decoder", "Message", "MessageError", "encode"]

Message = dict[str, Any]

MAGIC = b"GRX1"
HEAD = struct.Struct(">4sI")

GREETING_LIMIT = 4096
"""Bytes of a body before the other side has shown its key."""

LIMIT = 16 << 20
"""Bytes of a body afterwards: profiles and lists of stacks are the largest."""


class MessageError(Exception):
    """What came is no message of ours, or too large a one. The connection is of no more use."""


def encode(message: Message, limit: int = LIMIT) -> bytes:
    """Returns the frame of a message. Raises MessageError when its body would be larger than `limit` bytes."""
    body = json.dumps(message, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "backslashreplace")
    if len(body) > limit:
        raise MessageError(f"a message must not be larger than {limit} bytes, this one has {len(body)}")
    return HEAD.pack(MAGIC, len(body)) + body


class Decoder:
    """Takes bytes as they come and returns the messages in them; holds at most one incomplete message."""

    def __init__(self, limit: int = LIMIT) -> None:
        self.limit = limit
        """Bytes that a body may have; can be raised once the other side is known."""
        self._buffer = bytearray()

    def __repr__(self) -> str:
        return f"<Decoder limit={self.limit} waiting={len(self._buffer)}>"

    def feed(self, data: bytes) -> list[Message]:
        """Returns the messages that are complete now. Raises MessageError; nothing can be fed after that."""
        buffer = self._buffer
        buffer += data
        messages = []
        while (message := self._take()) is not None:
            messages.append(message)
        return messages

    def _take(self) -> Message | None:
        buffer = self._buffer
        if not MAGIC.startswith(buffer[: len(MAGIC)]):
            raise MessageError("this is no message of gorox: use goroxctl")
        if len(buffer) < HEAD.size:
            return None
        _, size = HEAD.unpack_from(buffer)
        if size > self.limit:
            raise MessageError(f"a message must not be larger than {self.limit} bytes, this one has {size}")
        end = HEAD.size + size
        if len(buffer) < end:
            return None
        message = _parse(bytes(buffer[HEAD.size : end]))
        del buffer[:end]
        return message


def _parse(body: bytes) -> Message:
    try:
        message = json.loads(body)
    except (ValueError, RecursionError) as error:  # JSONDecodeError and UnicodeDecodeError are ValueErrors
        raise MessageError(f"the body of a message must be JSON: {error}") from None
    if not isinstance(message, dict):
        raise MessageError("the body of a message must be a JSON object")
    return message
