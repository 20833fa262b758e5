"""The content of an HTTP/1 request while it arrives."""

from __future__ import annotations

from collections import deque
from time import monotonic
from typing import TYPE_CHECKING, Any

from hemi.sockets import DeadlinePassed
from hemi.web.errors import ClientGone, HTTPError
from hemi.web.h1.framing import Refusal

if TYPE_CHECKING:
    from hemi.web.h1.conn import Server1Conn
    from hemi.web.proxy.bulk import Pipe

RECV_SIZE = 65536
CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"

MAX_WRAPPING = 65536
MAX_WRAPPING_RATIO = 8
"""How many bytes may be read for a chunked content, at once and for each byte of it: a chunk of one byte takes 6."""


class Content1:
    """What the parser has found of a content, and the way to get the rest. `size` is in bytes, -1 when chunked."""

    __slots__ = ("arrived", "chunks", "complete", "conn", "expect", "received", "refusal", "since", "size")

    def __init__(self, conn: Server1Conn, size: int, expect: bool) -> None:
        self.conn: Server1Conn | None = conn
        self.size = size
        self.expect = expect
        """The client waits for a 100 before it sends anything."""
        self.complete = False
        self.chunks: deque[bytes] = deque()
        self.arrived = 0
        """Bytes of the content that have come."""
        self.received = 0
        """Bytes that were read for it since the head, wrapping and all."""
        self.since = 0.0
        self.refusal: Refusal | None = None

    def __repr__(self) -> str:
        state = "complete" if self.complete else "expect" if self.expect else "arriving"
        return f"<Content1 {state} size={self.size} received={self.received}>"

    def read(self, size: int) -> bytes:
        """Returns the next 1 to `size` bytes, b"" at the end.

        Raises HTTPError 400 for broken chunks and 408 for a client that is too slow, ClientGone when it left.
        """
        chunks = self.chunks
        while not chunks:
            if self.complete:
                return b""
            self._receive()
        data = chunks.popleft()
        if len(data) > size:
            chunks.appendleft(data[size:])
            data = data[:size]
        return data

    def _receive(self) -> None:
        conn = self.conn
        if conn is None:
            raise ClientGone("the exchange has ended")
        if self.refusal is None:
            self._receive_from(conn)
        if self.refusal is not None:
            raise HTTPError(self.refusal.status, self.refusal.text, close=True)

    def fill(self, pipe: Pipe, least: int) -> int:
        """Moves the next bytes past the parser into a pipe; 0 where that cannot be. Raises as `read`."""
        conn = self.conn
        left = self.size - self.arrived
        if (
            conn is None
            or left < least
            or self.chunks
            or self.expect
            or self.refusal
            or not pipe.fits(conn.channel)
        ):
            return 0
        size: int = self._take(conn, pipe, left)
        if self.refusal is not None:
            raise HTTPError(self.refusal.status, self.refusal.text, close=True)
        self.received += size
        self.arrived += size
        self.complete = size == left
        conn.skip(left - size)
        return size

    def _receive_from(self, conn: Server1Conn) -> None:
        data = self._take(conn, None, RECV_SIZE)
        if not data:
            return
        self.received += len(data)
        conn.feed(data)
        if self.size < 0 and not self.complete and self.refusal is None:
            self._check_wrapping(conn)

    def _take(self, conn: Server1Conn, pipe: Pipe | None, size: int) -> Any:
        """Takes what comes next, or how much of it went into the pipe; sets `refusal` when it is late or ends early."""
        channel, server, now = conn.channel, conn.server, monotonic()
        if self.expect:
            self.expect = False
            channel.send(CONTINUE)
        if not self.since:
            self.since = now
        # Who sends steadily may take as long as it needs; who drips is cut (slow body attacks).
        allowed = self.since + server.rate_grace + self.received / server.min_rate
        channel.deadline = min(now + server.read_timeout, allowed)
        try:
            got = channel.recv(size) if pipe is None else pipe.fill(channel, size)
        except DeadlinePassed:
            self.refusal = Refusal(408, "The content arrives too slowly.")
            return 0
        except OSError as error:
            conn.broken = True
            raise ClientGone(str(error)) from error
        finally:
            channel.deadline = conn.no_deadline
        if not got:
            self.refusal = Refusal(400, "The content ends early.")
        return got

    def _check_wrapping(self, conn: Server1Conn) -> None:
        """Refuses what makes us read much for little content: long chunk extensions (CVE-2023-39326), trailers."""
        if conn.has_excess(conn.pending_fields):
            self.refusal = Refusal(431, "The trailers are too large.")
        elif self.received > MAX_WRAPPING + self.arrived * MAX_WRAPPING_RATIO:
            self.refusal = Refusal(400, "The chunks have more wrapping than content.")

    def droppable(self, most: int) -> bool:
        """True when what has not been read yet is worth reading to keep the connection."""
        return self.complete or (
            self.refusal is None and not self.expect and 0 <= self.size - self.arrived <= most
        )

    def drop(self, most: int) -> bool:
        """Reads and drops the rest, up to `most` bytes. False when the connection can't go on behind it."""
        self.chunks.clear()
        limit = self.received + most
        try:
            while not self.complete:
                if self.expect or self.received > limit:
                    return False
                self._receive()
                self.chunks.clear()
        except (HTTPError, OSError):
            return False
        return True
