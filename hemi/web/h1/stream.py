"""One exchange on an HTTP/1 connection: framing of the response (RFC 9112 §6), in as few writes as possible."""

from __future__ import annotations

from socket import MSG_DONTWAIT, MSG_PEEK
from typing import TYPE_CHECKING

from hemi.web.errors import ClientGone, LengthMismatch
from hemi.web.fields import content_type_line
from hemi.web.statuses import NO_CONTENT, STATUS_LINES

if TYPE_CHECKING:
    from hemi.sockets import Channel
    from hemi.web.h1.conn import Server1Conn
    from hemi.web.h1.content import Content1
    from hemi.web.h1.framing import Refusal
    from hemi.web.proxy.bulk import Pipe
    from hemi.web.request import Request
    from hemi.web.response import Response

GATHER = 16384
"""Content up to this size is copied behind its head for one send; more goes out from where it lies."""

KNOWN_ANSWERS = 1024
KNOWN_LINES = 2048
"""How many heads of plain responses a server remembers, and how many bytes of ready-made lines in one."""

DROP_MOST = 262144
"""How much unread content is read and dropped to keep a connection; with more it is closed."""


class Server1Stream:
    """See `hemi.web.stream.ServerStream` for the verbs."""

    __slots__ = (
        "chunked",
        "conn",
        "content",
        "done",
        "head",
        "keep_alive",
        "left",
        "quiet",
        "refusal",
        "request",
        "response",
    )

    has_trailers = True
    has_informational = True
    has_upgrade = True

    request: Request
    response: Response

    def __init__(self, conn: Server1Conn, keep_alive: bool) -> None:
        self.conn: Server1Conn | None = conn
        self.keep_alive = keep_alive
        self.content: Content1 | None = None
        self.refusal: Refusal | None = None
        self.head = b""
        """The head while it waits for the first content."""
        self.chunked = False
        self.left = -1
        """Bytes of the promised content that have not been sent yet; -1 without a promise."""
        self.quiet = False
        """Nothing follows the head, whatever the handlet sends."""
        self.done = False
        """The response has gone out to its end."""

    def __repr__(self) -> str:
        return f"<Server1Stream {'done' if self.done else 'open'} left={self.left}>"

    def read(self, size: int) -> bytes:
        """Returns the next 1 to `size` bytes of the content, b"" at its end."""
        return self.content.read(size) if self.content is not None else b""

    # Head

    def _stays(self, resp: Response, conn: Server1Conn) -> bool:
        """Whether the connection goes on behind this response."""
        return self.keep_alive and not (
            resp.close
            or conn.gate.closing
            or conn.served >= conn.server.keepalive_requests
            or self.request.started > conn.until
            or (self.content is not None and not self.content.droppable(DROP_MOST))
        )

    def _make_head(self, resp: Response) -> bytes:
        conn = self.conn
        if conn is None or self.done or resp.is_sent:
            raise ClientGone("the exchange has ended")
        self.response = resp
        status, size, request = resp.status, resp.content_size, self.request
        if request.method == "HEAD":
            self.quiet = True
        if status in NO_CONTENT:
            self.quiet = True
            framing = b""
        elif size >= 0:
            framing = b"content-length: %d\r\n" % size
        elif request.version >= 11:
            framing = b"transfer-encoding: chunked\r\n"
            self.chunked = not self.quiet
        else:
            framing = b""
            self.keep_alive = self.keep_alive and self.quiet
        self.keep_alive = self._stays(resp, conn)
        if not self.keep_alive:
            framing += b"connection: close\r\n"
        elif request.version < 11:
            framing += b"connection: keep-alive\r\n"
        if resp.fields:
            framing += b"".join([b"%b: %b\r\n" % field for field in resp.fields])
        server = conn.server
        head = b"%b%b%b%b%b%b\r\n" % (
            STATUS_LINES[status],
            b"" if resp.has_server else server.head_lines,
            b"" if resp.has_date else server.clock.date_line,
            content_type_line(resp.content_type) if resp.content_type else b"",
            resp.lines,
            framing,
        )
        resp.is_sent = True  # not before: with a status or type that cannot be, there is still time for a 500
        return head

    def _make_plain_head(self, resp: Response, size: int) -> bytes:
        """The head of a response with nothing special about it: all but the date is remembered."""
        conn = self.conn
        if (
            conn is None
            or self.done
            or resp.is_sent
            or resp.fields
            or len(resp.lines) > KNOWN_LINES
            or self.request.version != 11
            or self.request.method == "HEAD"
        ):
            return self._make_head(resp)
        server = conn.server
        stays = self._stays(resp, conn)
        key = (resp.status, resp.content_type, size, resp.has_server, resp.lines, stays)
        lines = server.known_answers.get(key)
        if lines is None:
            if resp.status in NO_CONTENT:
                return self._make_head(resp)
            lines = b"%b%b%b%bcontent-length: %d\r\n%b" % (
                STATUS_LINES[resp.status],
                b"" if resp.has_server else server.head_lines,
                content_type_line(resp.content_type) if resp.content_type else b"",
                resp.lines,
                size,
                b"" if stays else b"connection: close\r\n",
            )
            if len(server.known_answers) >= KNOWN_ANSWERS:
                server.known_answers.clear()
            server.known_answers[key] = lines
        self.keep_alive = stays
        resp.is_sent = True
        self.response = resp
        return b"%b%b\r\n" % (lines, b"" if resp.has_date else server.clock.date_line)

    def send_informational(self, status: int, fields: list[tuple[bytes, bytes]]) -> None:
        """Sends a 1xx response; HTTP/1.0 clients do not know them (RFC 9110 §15.2)."""
        if self.request.version >= 11 and not self.done:
            self._send(STATUS_LINES[status] + b"".join([b"%b: %b\r\n" % field for field in fields]) + b"\r\n")

    def send_whole(self, resp: Response, content: bytes) -> None:
        """Sends head and content in one write where they are small."""
        size = len(content)
        if resp.content_size < 0 or size or self.request.method != "HEAD":
            resp.content_size = size
        head = self._make_plain_head(resp, size)
        self.done = True
        if self.quiet:
            content = b""
        resp.bytes_sent = len(content)
        try:
            if size <= GATHER:
                self.conn.channel.send(head + content)  # type: ignore[union-attr]
            else:
                self.conn.channel.send_pieces([head, content])  # type: ignore[union-attr]
        except OSError as error:
            self._lost(error)

    def send_head(self, resp: Response) -> None:
        """Readies the head. Without a known size the content is chunked, or for HTTP/1.0 ends with the connection."""
        self.head = self._make_head(resp)
        self.left = -1 if self.quiet else resp.content_size

    def flush(self) -> None:
        """Sends the head now if it has not gone out yet."""
        if self.head:
            self._send(b"")

    # Content

    def send_data(self, data: bytes, last: bool = False) -> None:
        """Sends a piece of the content. Raises LengthMismatch for what is more than promised, which is cut off."""
        if self.done:
            raise ClientGone("the response has ended")
        if self.quiet:
            data = b""
            self.flush()  # a stream may take its time, or have no end
        size = len(data)
        if self.chunked:
            if size:
                data = b"%x\r\n%b\r\n%b" % (size, data, b"0\r\n\r\n" if last else b"")
            elif last:
                data = b"0\r\n\r\n"
            self.done = last
        elif self.left >= 0:
            if size > self.left:
                self._overrun(data)
            self.left -= size
        if data or (last and self.head):
            self._send(data)
        self.response.bytes_sent += size
        if last:
            self.finish()

    def _overrun(self, data: bytes) -> None:
        promised, self.keep_alive = self.response.content_size, False
        data = data[: self.left]
        self.left = 0
        self._send(data)
        self.response.bytes_sent += len(data)
        self.finish()
        raise LengthMismatch(f"more content was sent than the Content-Length of {promised} bytes")

    def send_file(self, file: int, start: int, size: int, last: bool = False) -> None:
        """Sends a part of an open file as a piece of the content, by sendfile(2) where the channel can."""
        if self.done:
            raise ClientGone("the response has ended")
        if self.quiet:
            size = 0
        if not self.chunked and 0 <= self.left < size:
            raise LengthMismatch(
                f"the file is larger than the Content-Length of {self.response.content_size} bytes"
            )
        conn = self.conn
        if conn is None:
            raise ClientGone("the exchange has ended")
        head, self.head = self.head, b""
        if size and self.chunked:
            head += b"%x\r\n" % size
        try:
            conn.channel.send_file(file, start, size, head)
            if size and self.chunked:
                conn.channel.send(b"\r\n")
        except OSError as error:
            self._lost(error)
        if self.left >= 0:
            self.left -= size
        self.response.bytes_sent += size
        if last:
            self.finish()

    def lend(self) -> Channel | None:
        """The channel, behind the head, for who sends promised content past us and says so to `lent`; None where it has
        to go through `send_data`."""
        conn = self.conn
        if conn is None or conn.channel.tls is not None or self.left <= 0 or self.done:
            return None
        self.flush()
        return conn.channel

    def lent(self, size: int) -> None:
        """Notes how much of the content has gone out over the channel that was lent."""
        self.left -= size
        self.response.bytes_sent += size

    def lost(self, error: OSError) -> ClientGone:
        """Notes that the channel is broken; returns what to raise."""
        self.keep_alive = False
        if self.conn is not None:
            self.conn.broken = True
        return ClientGone(str(error))

    def fill(self, pipe: Pipe, least: int) -> int:
        """Moves the next bytes of the content into a pipe, and returns how many; 0 where they have to be read: with
        less than `least` bytes to come, or of vague size, or encrypted. Raises as `read`."""
        return self.content.fill(pipe, least) if self.content is not None else 0

    def send_trailers(self, fields: list[tuple[bytes, bytes]]) -> None:
        """Ends the message; the fields go behind a chunked content (RFC 9112 §7.1.2) and are dropped behind another."""
        if self.chunked and not self.done:
            self._send(b"0\r\n" + b"".join([b"%b: %b\r\n" % field for field in fields]) + b"\r\n")
            self.done = True
        self.finish()

    def finish(self) -> None:
        """Ends the message. Raises LengthMismatch when less was sent than promised: the connection is then reset."""
        if self.done:
            return
        self.done = True
        if self.left > 0:
            missing = self.left
            self.abort()
            raise LengthMismatch(f"{missing} bytes of the promised content are missing")
        if self.chunked:
            self._send(b"0\r\n\r\n")
        elif self.head:
            self._send(b"")

    def abort(self) -> None:
        """Resets the connection, so that the client can't take the message for a whole one."""
        self.done = True
        self.keep_alive = False
        conn = self.conn
        if conn is not None:
            conn.broken = True
            conn.channel.reset()

    def retract(self) -> bool:
        """Takes back a head that has not gone out, so that another can be sent. False when it is too late."""
        if not self.head:
            return False
        self.head, self.left = b"", -1
        self.chunked = self.quiet = self.done = self.response.is_sent = False
        return True

    def take_over(self, resp: Response, protocol: bytes) -> tuple[Channel, bytes]:
        """Sends the head of a 101 and gives the channel up (RFC 9110 §7.8)."""
        conn = self.conn
        if conn is None or self.done or resp.is_sent:
            raise ClientGone("the exchange has ended")
        self.response = resp
        fields = b"".join([b"%b: %b\r\n" % field for field in resp.fields])
        resp.is_sent = self.done = True
        self.keep_alive = False
        channel, data = conn.take_over()
        lines = b"connection: upgrade\r\nupgrade: %b\r\n%b%b\r\n" % (protocol, resp.lines, fields)
        try:
            channel.send(STATUS_LINES[101] + lines)
        except OSError as error:
            self._lost(error)
        return channel, data

    def is_gone(self) -> bool:
        """Looks, without waiting, whether the client has closed; what it still sends says that it has not."""
        conn = self.conn
        if conn is None:
            return True
        try:
            return not conn.channel.sock.recv(1, MSG_PEEK | MSG_DONTWAIT)
        except BlockingIOError:
            return False
        except OSError:
            return True

    def end(self) -> None:
        """Lets go of everything: left as they are, the circles would make each exchange work for the collector."""
        self.conn = self.request = self.response = None  # type: ignore[assignment]

    def _send(self, data: bytes) -> None:
        conn = self.conn
        if conn is None:
            raise ClientGone("the exchange has ended")
        head, self.head = self.head, b""
        try:
            if head and len(data) > GATHER:
                conn.channel.send_pieces([head, data])
            else:
                conn.channel.send(head + data if head else data)
        except OSError as error:
            self._lost(error)

    def _lost(self, error: OSError) -> None:
        raise self.lost(error) from error
