"""The content of an HTTP/1 request while it arrives."""

from __future__ import annotations

from collections import deque
from time import monotonic
from typing import TYPE_CHECKING

from hemi.sockets import DeadlinePassed
from hemi.web.errors import ClientGone, HTTPError

if TYPE_CHECKING:
    from hemi.web.h1.conn import Server1Conn
    from hemi.web.h1.framing import Refusal

RECV_SIZE = 65536
CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"


class Content1:
    """What the parser has found of a content, and the way to get the rest. `size` is in bytes, -1 when chunked."""

    __slots__ = ("chunks", "complete", "conn", "expect", "received", "refusal", "since", "size")

    def __init__(self, conn: Server1Conn, size: int, expect: bool) -> None:
        self.conn: Server1Conn | None = conn
        self.size = size
        self.expect = expect
        """The client waits for a 100 before it sends anything."""
        self.complete = False
        self.chunks: deque[bytes] = deque()
        self.received = 0
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
            conn.broken = True
            raise HTTPError(self.refusal.status, self.refusal.text, close=True)

    def _receive_from(self, conn: Server1Conn) -> None:
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
            data = channel.recv(RECV_SIZE)
        except DeadlinePassed:
            conn.broken = True
            raise HTTPError(408, "The content arrives too slowly.", close=True) from None
        except OSError as error:
            conn.broken = True
            raise ClientGone(str(error)) from error
        finally:
            channel.deadline = conn.no_deadline
        if not data:
            conn.broken = True
            raise HTTPError(400, "The content ends early.", close=True)
        self.received += len(data)
        conn.feed(data)

    def droppable(self, most: int) -> bool:
        """True when what has not been read yet is worth reading to keep the connection."""
        return self.complete or (not self.expect and 0 <= self.size - self.received <= most)

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
