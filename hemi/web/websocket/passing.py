"""Where frames begin and end in a WebSocket that is passed on (RFC 6455 §5.2): counted, not looked into.

Extensions change what is in a frame, not where it ends (RFC 6455 §9): nothing of what was agreed on need be known.
No sockets, no clocks.
"""

from __future__ import annotations

import os

from hemi.web.websocket.frames import CLOSE, FIN, MASKED, close_payload, unmask

__all__ = ["FrameFollower", "masked_close"]

_MOST = 14
"""Bytes that the head of a frame has at the most, its masking key included."""


def masked_close(code: int, reason: str) -> bytes:
    """A close frame as clients send it (RFC 6455 §5.3). Raises ValueError for what must not be sent."""
    payload, key = close_payload(code, reason), os.urandom(4)
    return bytes((FIN | CLOSE, MASKED | len(payload))) + key + unmask(payload, key)


class FrameFollower:
    """One direction. `closing` says that a close frame has passed, `lost` that these are no frames at all.

    A client's frames are `masked`, a server's are not: whatever else passes is found out by that, mostly.
    """

    __slots__ = ("_head", "_masked", "_missing", "closing", "lost")

    def __init__(self, masked: bool) -> None:
        self._masked = masked
        self._head = b""
        """The beginning of a head."""
        self._missing = 0
        """Bytes of a payload that are to come."""
        self.closing = False
        self.lost = False

    def __repr__(self) -> str:
        state = "lost" if self.lost else "closing" if self.closing else f"missing={self._missing}"
        return f"<FrameFollower {state}>"

    @property
    def between(self) -> bool:
        """Whether the last frame has passed whole, so that another one may be put behind it.

        That may be within a message: control frames go between its fragments (RFC 6455 §5.4).
        """
        return not (self._missing or self._head or self.lost)

    def follow(self, data: bytes) -> None:
        """Takes note of what passes."""
        at, end = 0, len(data)
        mask, more = (MASKED, 6) if self._masked else (0, 2)
        while at < end and not self.lost:
            if not (self._missing or self._head):
                # Small frames that are here whole, which most are: 0.4 µs instead of 2.
                while end - at > more and (size := data[at + 1] ^ mask) < 126 and not data[at] & 0x08:
                    if size + more > end - at:
                        break
                    at += size + more
                if at == end:
                    return
            at = self._step(data, at, end)

    def rest(self, data: bytes) -> int:
        """Takes note of the rest of the frame that is under way; returns how many bytes of `data` that is."""
        at, end = 0, len(data)
        while at < end and (self._missing or self._head):
            at = self._step(data, at, end)
        return at

    def _step(self, data: bytes, at: int, end: int) -> int:
        """Goes over the rest of a payload, or over a head. Returns where the next step begins."""
        missing = self._missing
        if missing:
            if missing > end - at:
                self._missing = missing - (end - at)
                return end
            self._missing = 0
            return at + missing
        had = len(self._head)
        head = self._head + data[at : at + _MOST - had]
        if len(head) < 2:
            self._head = head
            return end
        size = head[1] & 0x7F
        width = 2 if size < 126 else 4 if size == 126 else 10
        taken = width + 4 if self._masked else width
        if len(head) < taken:
            self._head = head
            return end
        self._head = b""
        if head[0] & 0x08:
            if size > 125 or not head[0] & FIN:
                self.lost = True
            self.closing |= head[0] & 0x0F == CLOSE
        elif size > 125:
            size = int.from_bytes(head[2:width])
        if bool(head[1] & MASKED) is not self._masked or size >> 63:
            self.lost = True
        self._missing = size
        return at + taken - had
