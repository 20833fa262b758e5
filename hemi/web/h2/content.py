"""The content of an HTTP/2 request while it arrives: held until it is read, within the window of its stream."""

from __future__ import annotations

import math
from collections import deque
from time import monotonic
from typing import TYPE_CHECKING, Any

from gevent import get_hub, getcurrent

from hemi.web.errors import ClientGone, HTTPError
from hemi.web.h2.inflow import Inflow

if TYPE_CHECKING:
    from hemi.web.h2.stream import Server2Stream


class Content2:
    """`size` is the promised one in bytes, -1 without a promise; `arrived` what has come, `complete` that it has ended.
    `late` says that a deadline has passed while somebody read."""

    __slots__ = (
        "arrived",
        "chunks",
        "complete",
        "deadline",
        "expect",
        "inflow",
        "late",
        "since",
        "size",
        "stream",
        "waiter",
    )

    def __init__(self, stream: Server2Stream, size: int, expect: bool, window: int, most: int) -> None:
        self.stream = stream
        self.size = size
        self.expect = expect
        """The client waits for a 100 before it sends anything."""
        self.arrived = 0
        self.complete = False
        self.late = False
        self.chunks: deque[bytes] = deque()
        self.since = 0.0
        self.deadline = math.inf
        self.inflow = Inflow(window, most)
        self.waiter: Any = None

    def __repr__(self) -> str:
        return f"<Content2 {'complete' if self.complete else 'arriving'} size={self.size} arrived={self.arrived}>"

    def wake(self) -> None:
        """Has the reader look again, if one waits."""
        if self.waiter is not None:
            get_hub().loop.run_callback(self._resume)

    def _resume(self) -> None:
        waiter, self.waiter = self.waiter, None
        if waiter is not None:
            waiter.switch()

    def read(self, size: int) -> bytes:
        """Returns the next 1 to `size` bytes, b"" at the end.

        Raises HTTPError 408 for a client that is too slow, ClientGone when it has left or reset the stream.
        """
        while not self.chunks:
            if self.complete and self.stream.gone < 0:
                return b""
            self._wait()
        return self.take(size)

    def take(self, size: int) -> bytes:
        """Up to `size` bytes of what is here; the windows are opened by as much."""
        chunks = self.chunks
        data = chunks.popleft()
        if len(data) > size:
            chunks.appendleft(data[size:])
            data = data[:size]
        elif len(data) < size and chunks:
            data = self._join(data, size)
        self.stream.took(len(data))
        return data

    def _join(self, data: bytes, size: int) -> bytes:
        """As many frames as fit: one call for the reader instead of many."""
        pieces, have, chunks = [data], len(data), self.chunks
        while chunks and have + len(chunks[0]) <= size:
            have += len(chunks[0])
            pieces.append(chunks.popleft())
        return b"".join(pieces)

    def _wait(self) -> None:
        stream = self.stream
        conn, server = stream.conn, stream.server
        if conn is None or stream.gone >= 0:
            raise ClientGone("the exchange has ended" if conn is None else "the client has reset the stream")
        if self.expect:
            self.expect = False
            stream.send_continue()
        now = monotonic()
        if not self.since:
            self.since = now
        stream.starve()
        # Who sends steadily may take as long as it needs; who drips is cut (slow body attacks).
        allowed = self.since + server.rate_grace + self.arrived / server.min_rate
        self.wait(min(now + server.read_timeout, allowed))
        self.deadline = math.inf
        if self.late:
            raise HTTPError(408, "The content arrives too slowly.", close=True)

    def wait(self, deadline: float) -> None:
        """Waits until something has come, or the stream has ended, or the deadline (monotonic seconds) has passed."""
        self.deadline = deadline
        self.stream.conn.watch(deadline)
        self.waiter = getcurrent()
        try:
            get_hub().switch()
        finally:
            self.waiter = None
