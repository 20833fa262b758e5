"""One exchange with a node that speaks HTTP/2, seen from the proxy: a request, and its response.

A `Backend2Stream` is what a pool gives for an exchange, and has the verbs of `hemi.web.h1.backend.Backend1Stream`. It
stands for its channel, too: `deadline`, `cut`, and, behind an extended CONNECT, `send` and `recv`.

Frames are the connection's (hemi.web.h2.backend). What arrives is queued here until somebody reads it, and the node may
send a window's size of it; what is sent waits for the node's windows, and for the socket.
"""

from __future__ import annotations

import math
import os
from collections import deque
from time import monotonic
from typing import TYPE_CHECKING, Any

from gevent import get_hub
from gevent.hub import Waiter

from hemi.sockets import DeadlinePassed
from hemi.web.h1.answer import BadAnswer, Head
from hemi.web.h2.clienthead import RequestFields, check_fields, request_fields, response_head, switching_head
from hemi.web.statuses import NO_CONTENT

if TYPE_CHECKING:
    from hemi.upstream.node import Node
    from hemi.web.h2.backend import Backend2Conn

__all__ = ["Backend2Stream"]

MAX_INFORMATIONAL = 32
"""How many 1xx responses may come before the final one."""

PIECE = 262144
"""How much of a file is read at a time, in bytes."""

PLAIN_TRAILERS = ((b"grpc-status", b"0"),)
"""What nearly all calls of gRPC end with."""

KNOWN_HEADS = 1024
KNOWN_SIZE = 2048
"""How many heads of requests and of responses a backend remembers, and how large ones in bytes."""


class Backend2Stream:
    """A place on a connection to a node, for one exchange. `uses` is the number of those that the connection has had;
    `answered` says that a part of the response has come, `sent` that the request has gone out to its end, `complete`
    that the response has been read to its end."""

    __slots__ = (
        "_closed",
        "_ended",
        "_error",
        "_heads",
        "_missing",
        "_pieces",
        "_queued",
        "_reader",
        "_request",
        "_shut",
        "_taken",
        "_trailers",
        "_why",
        "_writer",
        "answered",
        "chunked",
        "complete",
        "conn",
        "deadline",
        "excess",
        "interim",
        "late",
        "method",
        "number",
        "send_deadline",
        "sent",
        "since",
        "uses",
    )

    is_shared = True
    has_trailers = True
    has_upgrade = True

    def __init__(self, conn: Backend2Conn) -> None:
        self.conn = conn
        self.uses = conn.uses
        self.method = ""
        self.number = 0
        """The stream's identifier, 0 before its request has begun."""
        self.since = 0.0
        self.answered = False
        self.chunked = False
        self.sent = False
        self.complete = False
        self.excess = False
        self.interim = 0
        self.deadline = math.inf
        self.send_deadline = math.inf
        """Of what waits to be sent: while that waits, the answer may go on, by its own deadline."""
        self.late = False
        self._request: RequestFields | None = None
        self._heads: deque[Head] = deque()
        self._missing = -1  # bytes of the content that are to come, -1 when it has no length
        self._pieces: list[bytes] = []
        self._queued = 0
        self._taken = 0  # bytes that were read, and that the node was not told of
        self._trailers: list[tuple[bytes, bytes]] = []
        self._ended = False  # nothing more will come
        self._shut = False  # nothing more will be sent
        self._error: Exception | None = None
        self._why = "the deadline for reading has passed"
        self._closed = False  # the place was given back
        self._reader: Any = None
        self._writer: Any = None

    def __repr__(self) -> str:
        state = (
            "complete" if self.complete else "answered" if self.answered else "sent" if self.sent else "open"
        )
        return f"<Backend2Stream {self.number} {self.method} {state} queued={self._queued}>"

    @property
    def channel(self) -> Any:
        """What has the deadline: itself."""
        return self

    @property
    def node(self) -> Node:
        """Whose it is."""
        return self.conn.node

    @property
    def reused(self) -> bool:
        """Whether others used the connection before: then it may turn out dead."""
        return self.uses > 1

    def begin(self, method: str) -> Backend2Stream:
        """Says what it is for."""
        self.method = method
        return self

    # The request

    def send_whole(self, head: bytes, content: bytes = b"") -> None:
        """Sends a request whose content is here."""
        self._open(head, not content)
        if content:
            self._send(content, True)
        self.sent = True

    def send_head(self, head: bytes) -> None:
        """Sends the head of a request whose content follows by `send_data`."""
        self._open(head, False)

    def send_data(self, data: bytes) -> None:
        """Sends a piece of the content. Waits while the node takes no more. Raises DeadlinePassed, OSError."""
        if data:
            self._send(data, False)

    def send_file(self, head: bytes, file: int, size: int) -> None:
        """Sends a request whose content is the first `size` bytes of an open file."""
        self._open(head, False)
        at = 0
        while at < size:
            data = os.pread(file, min(PIECE, size - at), at)
            if not data:
                raise EOFError(f"the file ends {size - at} bytes early")
            at += len(data)
            self._send(data, at == size)
        self.sent = True

    def finish(self, trailers: list[tuple[bytes, bytes]] | None = None) -> None:
        """Ends the request, with these fields behind its content."""
        if self.sent:
            return
        self._check()
        if trailers:
            self.conn.send_trailers(self.number, trailers)
        else:
            self.conn.end_stream(self.number)
        self.sent = self._shut = True

    def _open(self, head: bytes, last: bool) -> None:
        conn = self.conn
        request = self._request = self._fields_of(head)
        if request.protocol:
            if not conn.has_connect:
                raise BadAnswer(f"it does not take {request.protocol.decode('latin-1')} (RFC 8441)")
            last = False
        self.since = monotonic()
        conn.begin(self, request.fields, last)
        self._shut = last

    def _fields_of(self, head: bytes) -> RequestFields:
        """The fields of a head; remembered, as clients say the same again and again."""
        known = self.conn.terms.known_requests
        request = known.get(head)
        if request is None:
            request = request_fields(head, self.conn.scheme)
            if len(head) <= KNOWN_SIZE:
                if len(known) >= KNOWN_HEADS:
                    known.clear()
                known[head] = request
        return request

    def _send(self, data: bytes, last: bool) -> None:
        conn, at, size = self.conn, 0, len(data)
        while True:
            self._check()
            room = conn.room(self.number)
            if room <= 0:
                self._wait_for_room()
                continue
            piece = data if not at and size <= room else data[at : at + room]
            at += len(piece)
            conn.send_data(self.number, piece, last and at == size)
            if at == size:
                self._shut = last
                return

    def _check(self) -> None:
        """Raises what keeps this side from sending."""
        if self.late:
            raise DeadlinePassed(self._why)
        if self._error is not None:
            raise self._error

    def _wait_for_room(self) -> None:
        """Waits until the node, or the socket, takes more. Raises DeadlinePassed after the time for writing."""
        conn = self.conn
        self.send_deadline = monotonic() + conn.terms.write_timeout
        waiter = self._writer = Waiter()
        conn.blocked.add(self)
        try:
            waiter.get()
        finally:
            conn.blocked.discard(self)
            self._writer = None
            self.send_deadline = math.inf

    # The response

    def read_head(self) -> Head:
        """The next head, interim ones included. Raises BadAnswer, OSError; DeadlinePassed when its time is over."""
        while not self._heads:
            if self._error is not None:
                raise self._error
            self._wait()
        if self._error.__class__ is BadAnswer:
            raise self._error  # what came of it is not to be used
        head = self._heads.popleft()
        if head.status < 200:
            return head
        request = self._request
        if request is not None and request.protocol:
            if 200 <= head.status < 300 and not self._ended:
                return switching_head(head, request)
            if 200 <= head.status < 300:
                raise BadAnswer("it ends a tunnel before it begins")
            self.shutdown_write()  # it was refused: the answer is as any other
        if head.status in NO_CONTENT or self.method == "HEAD":
            self.complete = True
            self.excess = bool(self._queued)
        elif self._ended and not self._queued and not self._trailers:
            self.complete = True
        return head

    def take_whole(self, size: int) -> bytes | None:
        """The content of `size` bytes, if all of it is here and nothing follows it; None if not."""
        if not self._ended or self._queued != size or self._trailers:
            return None
        self.complete = True
        return self._take()

    @property
    def has_content(self) -> bool:
        """Whether a piece of the content is here already."""
        return bool(self._pieces)

    def read(self, size: int = 0) -> bytes:
        """What has come of the content since the last time, b"" at its end. Raises BadAnswer, OSError."""
        while True:
            if self.complete:
                return b""
            if self._queued:
                data = self._take()
                self.complete = self._ended
                return data
            if self._ended:
                self.complete = True
                return b""
            if self._error is not None:
                raise self._error
            self._wait()

    def _take(self) -> bytes:
        pieces = self._pieces
        data = pieces[0] if len(pieces) == 1 else b"".join(pieces)
        pieces.clear()
        self._taken += self._queued
        self._queued = 0
        if not self._ended and self._taken * 2 >= self.conn.terms.window and self._error is None:
            self.conn.open_window(self.number, self._taken)
            self._taken = 0
        return data

    def _wait(self) -> None:
        """Waits until something comes."""
        if self.late:
            raise DeadlinePassed(self._why)
        waiter = self._reader = Waiter()
        try:
            waiter.get()
        finally:
            self._reader = None
        if self.late:
            raise DeadlinePassed(self._why)

    @property
    def trailers(self) -> list[tuple[bytes, bytes]]:
        """The fields behind the content."""
        return self._trailers

    # Behind an extended CONNECT: a channel

    def take_over(self) -> tuple[Any, bytes]:
        """Behind a 101: the channel, and what has come of the other protocol already."""
        return self, b""

    def send(self, data: bytes) -> None:
        """Sends all of `data`. Raises DeadlinePassed, OSError."""
        if data:
            self._send(data, False)

    def send_pieces(self, pieces: list[bytes]) -> None:
        """Sends the pieces one after another."""
        self.send(b"".join(pieces))

    def recv(self, size: int) -> bytes:
        """Returns 1 to `size` bytes, or b"" at the end. Raises DeadlinePassed, OSError."""
        data = self.read()
        if len(data) > size:
            data, rest = data[:size], data[size:]
            self._pieces.insert(0, rest)
            self._queued += len(rest)
            self._taken -= len(rest)
            self.complete = False
        return data

    recv_waiting = recv

    def shutdown_write(self) -> None:
        """Says that no more will be sent."""
        if self._error is None and not self._shut:
            self._shut = True
            self.conn.end_stream(self.number)

    def cut(self, now: float) -> None:
        """Ends the wait of whoever waits here. Called in the hub, or by whom the exchange belongs to."""
        if self._writer is not None:
            self._why = "the node does not take what is sent to it"
        self.late = True
        self.deadline = self.send_deadline = math.inf
        self._wake()

    # The connection's calls

    def take_head(self, block: Any, ended: bool) -> None:
        """A head has come."""
        self.answered = True
        terms = self.conn.terms
        known = terms.known
        key = (tuple(block), ended)
        head = known.get(key)
        if head is None:
            head = response_head(block, ended, terms.max_head)
            if head.status >= 200 and sum([len(field[0]) + len(field[1]) for field in block]) <= KNOWN_SIZE:
                if len(known) >= KNOWN_HEADS:
                    known.clear()
                head.is_known = True
                known[key] = head
        if head.status < 200:
            self.interim += 1
            if self.interim > MAX_INFORMATIONAL:
                raise BadAnswer("it sends interim responses without end")
        elif self.method == "HEAD" or head.status in NO_CONTENT:
            self._missing = 0
        elif head.size >= 0 and not (head.status < 300 and self._request and self._request.protocol):
            self._missing = head.size
        self._heads.append(head)
        self._wake_reader()

    def take_data(self, data: bytes, size: int) -> None:
        """A piece of the content has come, in `size` bytes of frames. Raises BadAnswer when it is too much (§8.1.1)."""
        if self._missing >= 0:
            if len(data) > self._missing:
                raise BadAnswer("it sends more content than it says")
            self._missing -= len(data)
        if data and not self._closed:
            self._pieces.append(data)
            self._queued += len(data)
            self._taken += size - len(data)  # padding counts in the window, too
            self._wake_reader()

    def take_trailers(self, block: Any) -> None:
        """The fields behind the content have come."""
        if tuple(block) != PLAIN_TRAILERS:
            block = [(name, value.strip(b" \t")) for name, value in block]
            check_fields(block, self.conn.terms.max_head)
        self._trailers = block

    def take_end(self) -> None:
        """The response is at its end. Raises BadAnswer when it is not."""
        if self._missing > 0:
            raise BadAnswer(f"{self._missing} bytes of its content are missing")
        self._ended = True
        self._wake_reader()

    def fail(self, error: Exception) -> None:
        """Nothing more will come, nothing more is taken; a response that is here to its end stays good."""
        if self._error is None:
            self._error = error
        self._wake()

    def _wake_reader(self) -> None:
        waiter = self._reader
        if waiter is not None:
            self._reader = None
            get_hub().loop.run_callback(waiter.switch, None)

    def wake_writer(self) -> None:
        """The node, or the socket, takes more."""
        waiter = self._writer
        if waiter is not None:
            self._writer = None
            get_hub().loop.run_callback(waiter.switch, None)

    def _wake(self) -> None:
        self._wake_reader()
        self.wake_writer()

    # The end

    def end(self) -> bool:
        """Ends the exchange; tells whether it has ended well, on both sides."""
        self.deadline = math.inf
        return self.complete and self.sent and not self.excess

    def close(self) -> None:
        """Gives the place back; what is not at its end is broken off on both sides. Idempotent."""
        if self._closed:
            return
        self._closed = True
        if self._error is None:
            self._error = ConnectionAbortedError("the exchange has ended")
        self._pieces.clear()
        self._queued = 0
        self._wake()
        self.conn.release(self, self._shut and self._ended)

    reset = close
