"""The client's side of HTTP/1: requests to upstreams, and their responses (RFC 9112).

A `Backend1Stream` is one exchange on a `Backend1Conn`. It has the verbs of `hemi.web.stream.BackendStream`. What goes
wrong is told by exceptions: DeadlinePassed and OSError of the connection, BadAnswer for what is no good response.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from hemi.web.h1.answer import CHUNKED, TO_THE_END, BadAnswer, ChunkReader, Head, parse_head
from hemi.web.proxy.backend import WebConn
from hemi.web.statuses import NO_CONTENT

if TYPE_CHECKING:
    from hemi.upstream.dial import Dialed
    from hemi.web.proxy.bulk import Pipe

__all__ = ["Backend1Conn", "Backend1Stream"]

RECV_HEAD = 32768
RECV_CONTENT = 262144
KNOWN_HEADS = 1024
KNOWN_SIZE = 2048
"""How many heads of responses a backend remembers, and how large ones in bytes."""

MAX_INFORMATIONAL = 32
"""How many 1xx responses may come before the final one."""

GATHER = 16384


class Backend1Conn(WebConn):
    """A connection to a node that speaks HTTP/1."""

    __slots__ = ()


class Backend1Stream:
    """One exchange on a connection to a node.

    `answered` says that a byte of the response has come. `chunked` says how the request's content is framed.
    """

    __slots__ = (
        "_known",
        "_left",
        "_max_head",
        "_reader",
        "_rest",
        "answered",
        "channel",
        "chunked",
        "complete",
        "excess",
        "interim",
        "keep_alive",
        "method",
        "sent",
    )

    has_trailers = True
    has_upgrade = True
    is_bare = True
    """A content of known size is on the channel as it is, and may go past the stream."""

    def __init__(self, channel: Dialed, method: str, known: dict[bytes, Head], max_head: int = 65536) -> None:
        self.channel: Any = channel
        self.method = method
        self.answered = False
        self.chunked = False
        self.sent = False
        """The request has gone out to its end."""
        self.complete = False
        """The response has been read to its end."""
        self.keep_alive = False
        self.excess = False
        """Something came behind the response that nobody asked for."""
        self.interim = 0
        self._known = known
        self._max_head = max_head
        self._rest = b""
        self._left = 0
        self._reader: ChunkReader | None = None

    def __repr__(self) -> str:
        state = (
            "complete" if self.complete else "answered" if self.answered else "sent" if self.sent else "open"
        )
        return f"<Backend1Stream {self.method} {state} left={self._left}>"

    # The request

    def send_whole(self, head: bytes, content: bytes = b"") -> None:
        """Sends a request whose content is here."""
        if len(content) <= GATHER:
            self.channel.send(head + content if content else head)
        else:
            self.channel.send_pieces([head, content])
        self.sent = True

    def send_head(self, head: bytes) -> None:
        """Sends the head of a request whose content follows by `send_data`."""
        self.channel.send(head)

    def send_file(self, head: bytes, file: int, size: int) -> None:
        """Sends a request whose content is the first `size` bytes of an open file."""
        self.channel.send_file(file, 0, size, head)
        self.sent = True

    def send_data(self, data: bytes) -> None:
        """Sends a piece of the content."""
        if self.chunked:
            size = len(data)
            if size > GATHER:
                self.channel.send_pieces([b"%x\r\n" % size, data, b"\r\n"])
            elif size:
                self.channel.send(b"%x\r\n%b\r\n" % (size, data))
        elif data:
            self.channel.send(data)

    def finish(self, trailers: list[tuple[bytes, bytes]] | None = None) -> None:
        """Ends the request; trailers go behind a chunked content."""
        if self.chunked:
            lines = b"".join([b"%b: %b\r\n" % field for field in trailers]) if trailers else b""
            self.channel.send(b"0\r\n%b\r\n" % lines)
        self.sent = True

    def go_on(self, data: bytes) -> None:
        """Goes on with an exchange whose request somebody else has sent, and who has read this much of the response."""
        self.sent = True
        self.answered = bool(data)
        self._rest = data

    # The response

    def read_head(self) -> Head:
        """The next head, interim ones included. Raises BadAnswer, ConnectionError for an end before it."""
        data = self._rest
        if data:
            self._rest = b""
        else:
            data = self.channel.recv_waiting(RECV_HEAD)
            if not data:
                raise ConnectionAbortedError("the node closed the connection before it answered")
            self.answered = True
        at = data.find(b"\r\n\r\n")
        if at < 0:
            data, at = self._read_rest_of_head(data)
        at += 4
        if at == len(data):
            block = data
        else:
            block, self._rest = data[:at], data[at:]
        head = self._known.get(block)
        if head is None:
            head = self._learn(block)
        status = head.status
        if status < 200:
            if status != 101:
                self.interim += 1
                if self.interim > MAX_INFORMATIONAL:
                    raise BadAnswer("it sends interim responses without end")
            return head
        if status in NO_CONTENT or self.method == "HEAD":
            self._end(head.keep_alive)
            return head
        size = head.size
        self.keep_alive = head.keep_alive
        if size >= 0:
            self._left = size
            have = len(self._rest)
            if have > size:
                self.excess, self._rest = True, self._rest[:size]
            self.complete = not size
        elif size == CHUNKED:
            self._reader = ChunkReader(self._max_head)
            self._left = CHUNKED
        else:
            self._left = TO_THE_END
            self.keep_alive = False
        return head

    def _read_rest_of_head(self, data: bytes) -> tuple[bytes, int]:
        at = -1
        while at < 0:
            if len(data) > self._max_head:
                raise BadAnswer(f"its head is larger than {self._max_head} bytes")
            if data[:5] != b"HTTP/"[: len(data)]:
                raise BadAnswer(f"it is not HTTP/1: {data[:40]!r}")
            more = self.channel.recv(RECV_HEAD)
            if not more:
                raise BadAnswer("it ends in the middle of its head")
            data += more
            at = data.find(b"\r\n\r\n", max(0, len(data) - len(more) - 3))
        return data, at

    def _learn(self, block: bytes) -> Head:
        """Parses a head; remembers it, as nodes say the same again and again within a second."""
        if len(block) > self._max_head:
            raise BadAnswer(f"its head is larger than {self._max_head} bytes")
        head = parse_head(block)
        if len(block) <= KNOWN_SIZE and head.status >= 200:
            known = self._known
            if len(known) >= KNOWN_HEADS:
                known.clear()
            head.is_known = True
            known[block] = head
        return head

    def _end(self, keep_alive: bool) -> None:
        """Ends a response that has no content."""
        self.keep_alive = keep_alive
        self.excess = bool(self._rest)
        self._rest = b""
        self.complete = True

    def take_whole(self, size: int) -> bytes | None:
        """The content of `size` bytes, if all of it has come with the head; None if not."""
        if len(self._rest) != size:
            return None
        data, self._rest = self._rest, b""
        self._left = 0
        self.complete = True
        return data

    @property
    def has_content(self) -> bool:
        """Whether a piece of the content is here already."""
        return bool(self._rest)

    def read(self, size: int = RECV_CONTENT) -> bytes:
        """Returns the next 1 to `size` bytes of the content, b"" at its end.

        Raises BadAnswer when the connection ends before the content does, or its chunks are broken.
        """
        if self.complete:
            return b""
        if self._reader is not None:
            return self._read_chunks(self._reader)
        data, left = self._rest, self._left
        if data:
            self._rest = b""
        else:
            data = self.channel.recv(size if left < 0 else min(size, left))
        if left < 0:
            if not data:
                if getattr(self.channel, "truncated", False):
                    raise BadAnswer(
                        "the node ended the connection without ending TLS: the content may lack its end"
                    )
                self.complete = True
            return data
        if not data:
            raise BadAnswer(f"{left} bytes of its content are missing")
        self._left = left = left - len(data)
        if not left:
            self.complete = True
        return data

    @property
    def promised(self) -> int:
        """How many bytes of the content must still come over the channel; 0 when nobody knows, or some are here."""
        return 0 if self._rest or self._reader is not None else max(self._left, 0)

    def fill(self, pipe: Pipe) -> int:
        """Moves the next bytes of a `promised` content into a pipe, and returns how many. Raises as `read`."""
        size = pipe.fill(self.channel, self._left)
        if not size:
            raise BadAnswer(f"{self._left} bytes of its content are missing")
        self._left -= size
        self.complete = not self._left
        return size

    def _read_chunks(self, reader: ChunkReader) -> bytes:
        data, self._rest = self._rest, b""
        while True:
            if not data:
                data = self.channel.recv(RECV_CONTENT)
                if not data:
                    raise BadAnswer("its chunks have no end")
            content = reader.feed(data)
            if reader.complete:
                self.complete = True
                self.excess = reader.excess
            if content or reader.complete:
                return content
            data = b""

    @property
    def trailers(self) -> list[tuple[bytes, bytes]]:
        """The fields behind the content."""
        return self._reader.trailers if self._reader is not None else []

    # The end

    def take_over(self) -> tuple[Dialed, bytes]:
        """Behind a 101: the channel, and what has come of the other protocol already."""
        data, self._rest = self._rest, b""
        return self.channel, data

    def end(self) -> bool:
        """Ends the exchange; tells whether the connection can have another one."""
        self.channel.deadline = math.inf
        return self.complete and self.sent and self.keep_alive and not self.excess
