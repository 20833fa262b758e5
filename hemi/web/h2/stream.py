"""One exchange on an HTTP/2 connection: see `hemi.web.stream.ServerStream` for the verbs.

Small pieces go straight to what the connection sends next. What is larger than a frame or a window, or comes while
others wait, is left as `source` for the connection's writer, which takes from it when it is the stream's turn; the
greenlet of the stream waits meanwhile.
"""

from __future__ import annotations

import os
from time import monotonic
from typing import TYPE_CHECKING, Any, NoReturn

from gevent import get_hub, getcurrent

from hemi.web.errors import ClientGone, HTTPError, LengthMismatch
from hemi.web.fields import content_type_line
from hemi.web.h2.encoding import STATUS_BLOCKS, field_block, length_block, lines_block
from hemi.web.h2.errors import INTERNAL_ERROR, NO_ERROR, name_of
from hemi.web.h2.frames import DATA, END_HEADERS, END_STREAM, HEADERS, headers_frames, pack_header
from hemi.web.h2.tunnel import TunnelChannel
from hemi.web.statuses import NO_CONTENT

if TYPE_CHECKING:
    from hemi.web.h1.framing import Refusal
    from hemi.web.h2.conn import Server2Conn
    from hemi.web.h2.content import Content2
    from hemi.web.h2.head import Head
    from hemi.web.request import Request
    from hemi.web.response import Response
    from hemi.web.server import HTTPXServer

KNOWN_ANSWERS = 1024
"""How many heads of plain responses a server remembers."""

ALIVE = -1
"""`gone` of a stream that has not been reset; else the code it was reset by."""


class Server2Stream:
    """A stream. `window` is what may be sent of content, in bytes; `gone` an error code once either side has reset it;
    `source` what waits to be sent: bytes, or the number of an open file, from `at` to `end`."""

    __slots__ = (
        "at",
        "blocked",
        "closes",
        "conn",
        "content",
        "done",
        "end",
        "fault",
        "gone",
        "greenlet",
        "head",
        "incremental",
        "keep_alive",
        "left",
        "open",
        "protocol",
        "queued",
        "quiet",
        "refusal",
        "request",
        "response",
        "sent",
        "server",
        "sid",
        "source",
        "tunnel",
        "urgency",
        "waiter",
        "window",
    )

    has_trailers = True
    has_informational = True
    has_upgrade = True

    request: Request

    def __init__(self, conn: Server2Conn, sid: int, head: Head) -> None:
        self.conn: Any = conn
        self.sid = sid
        self.server: HTTPXServer = conn.server
        self.window: int = conn.peer_window
        self.keep_alive = True
        self.content: Content2 | None = None
        self.refusal: Refusal | None = head.refusal
        self.protocol = head.protocol
        _, _, _, _, _, self.urgency, self.incremental, _ = head.known
        self.response: Any = None
        self.greenlet: Any = None
        self.gone = ALIVE
        self.head: bytes | None = None
        """The block of the head while it waits for the first content."""
        self.left = -1
        """Bytes of the promised content that have not been sent yet; -1 without a promise."""
        self.quiet = False
        """Nothing follows the head, whatever the handlet sends."""
        self.done = False
        """The response has gone out to its end."""
        self.tunnel = False
        """It has been given up as a channel."""
        self.open = True
        """Our side has not ended the stream."""
        self.queued = False
        self.source: bytes | int | None = None
        self.at = self.end = self.sent = 0
        self.closes = False
        """The stream ends behind the source."""
        self.blocked = 0.0
        """Until when the client must have taken more, while the source waits."""
        self.waiter: Any = None
        self.fault: Exception | None = None

    def __repr__(self) -> str:
        state = name_of(self.gone) if self.gone >= 0 else "done" if self.done else "open"
        return f"<Server2Stream {self.sid} {state} left={self.left}>"

    # The request

    def read(self, size: int) -> bytes:
        """Returns the next 1 to `size` bytes of the content, b"" at its end."""
        content = self.content
        if content is None or self.protocol:
            return b""
        return content.read(size)

    def took(self, size: int) -> None:
        """Opens the windows for as much as was read."""
        conn, content = self.conn, self.content
        if conn is None:
            raise ClientGone("the exchange has ended")
        now = monotonic()
        conn.took(size, now)
        if content is not None and not content.complete and self.gone < 0:
            grown = content.inflow.take(size, now)
            if grown:
                conn.send_window(self.sid, grown)

    def starve(self) -> None:
        """Notes that a reader waits: it is faster than the windows, or the client."""
        if self.content is not None:
            self.content.inflow.starved = self.conn.inflow.starved = True

    def send_continue(self) -> None:
        """Sends the 100 that the client waits for."""
        if self.response is None and self.gone < 0:
            self._push(headers_frames(self.sid, STATUS_BLOCKS[100], 0, self.conn.writer.frame_size))

    # Head

    def _make_block(self, resp: Response) -> bytes:
        conn = self.conn
        if conn is None or self.done or resp.is_sent or self.gone >= 0:
            self._raise_gone()
        self.response = resp
        status, size = resp.status, resp.content_size
        if self.protocol and 200 <= status < 300:
            # It would mean that the tunnel is there (RFC 8441 §4); no other protocol was spoken of.
            raise HTTPError(501, "There is nothing here that talks this protocol.")
        framing = b""
        if self.request.method == "HEAD":
            self.quiet = True
        if status in NO_CONTENT:
            self.quiet = True
        elif size >= 0:
            framing = length_block(size)
        server = self.server
        pieces = [STATUS_BLOCKS[status]]
        if not resp.has_server and server.head_lines:
            pieces.append(lines_block(server.head_lines))
        if not resp.has_date:
            pieces.append(lines_block(server.clock.date_line))
        if resp.content_type:
            pieces.append(lines_block(content_type_line(resp.content_type)))
        if resp.lines:
            pieces.append(lines_block(resp.lines))
        pieces.append(framing)
        if resp.fields:
            pieces += [field_block(field) for field in resp.fields]
        resp.is_sent = True  # not before: with a status or type that cannot be, there is still time for a 500
        if resp.close:
            conn.drain()
        return b"".join(pieces)

    def _make_plain_block(self, resp: Response, size: int) -> bytes:
        """The head of a response with nothing special about it: all but the date is remembered."""
        if (
            self.conn is None
            or self.done
            or resp.is_sent
            or self.gone >= 0
            or resp.fields
            or resp.lines
            or resp.close
            or self.protocol
            or self.request.method == "HEAD"
        ):
            return self._make_block(resp)
        server = self.server
        key = (resp.status, resp.content_type, size)
        block = server.known_blocks.get(key)
        if block is None:
            if resp.status in NO_CONTENT:
                return self._make_block(resp)
            block = STATUS_BLOCKS[resp.status] + lines_block(server.head_lines)
            if resp.content_type:
                block += lines_block(content_type_line(resp.content_type))
            block += length_block(size)
            if len(server.known_blocks) >= KNOWN_ANSWERS:
                server.known_blocks.clear()
            server.known_blocks[key] = block
        resp.is_sent = True
        self.response = resp
        return block + lines_block(server.clock.date_line)

    def send_informational(self, status: int, fields: list[tuple[bytes, bytes]]) -> None:
        """Sends a 1xx response (RFC 9113 §8.1); 101 does not exist here (§8.6)."""
        if self.response is None and status != 101:
            block = STATUS_BLOCKS[status] + b"".join([field_block(field) for field in fields])
            self._push(headers_frames(self.sid, block, 0, self.conn.writer.frame_size))

    def send_whole(self, resp: Response, content: bytes) -> None:
        """Sends head and content; small ones at once, together with what others send."""
        size = len(content)
        if resp.content_size < 0 or size or self.request.method != "HEAD":
            resp.content_size = size
        block = self._make_plain_block(resp, size)
        self.done = True
        writer, sid = self.conn.writer, self.sid
        if self.quiet or not size:
            self.open = False
            writer.push(headers_frames(sid, block, END_STREAM, writer.frame_size))
            return
        resp.bytes_sent = size
        head_size = len(block)
        if (
            size <= self.window
            and size <= writer.window
            and size <= writer.frame_size >= head_size
            and not writer.is_crowded()
        ):
            self.window -= size
            writer.window -= size
            self.open = False
            writer.push(
                b"%b%b%b%b"
                % (
                    pack_header(head_size << 8 | HEADERS, END_HEADERS, sid),
                    block,
                    pack_header(size << 8 | DATA, END_STREAM, sid),
                    content,
                )
            )
            return
        writer.push(headers_frames(sid, block, 0, writer.frame_size))
        self._pour(content, 0, size, True)

    def send_head(self, resp: Response) -> None:
        """Readies the head; without a known size the content is as long as it gets."""
        self.head = self._make_block(resp)
        self.left = -1 if self.quiet else resp.content_size

    def flush(self) -> None:
        """Sends the head now if it has not gone out yet."""
        if self.head is not None:
            self._send_head(END_STREAM if self.quiet else 0)

    def _send_head(self, flags: int) -> None:
        block, self.head = self.head, None
        if flags & END_STREAM:
            self.open = False
            self.done = self.done or self.quiet
        self._push(headers_frames(self.sid, block or b"", flags, self.conn.writer.frame_size))

    # Content

    def send_data(self, data: bytes, last: bool = False) -> None:
        """Sends a piece of the content. Raises LengthMismatch for what is more than promised, which is cut off."""
        if self.quiet:
            self.flush()  # a stream may take its time, or have no end
            if self.conn is None or self.gone >= 0:
                self._raise_gone()
            if last:
                self.finish()
            return
        if self.done:
            raise ClientGone("the response has ended")
        size = len(data)
        if self.left >= 0:
            if size > self.left:
                self._overrun(data)
            self.left -= size
        ends = last and self.left <= 0
        self.done = ends
        if self.head is not None:
            self._send_head(0)
        self._send_content(data, ends)
        self.response.bytes_sent += size
        if last:
            self.finish()  # finds out what is missing

    def _send_content(self, data: bytes, last: bool) -> None:
        conn, size = self.conn, len(data)
        if conn is None or self.gone >= 0:
            self._raise_gone()
        writer = conn.writer
        if (
            size <= self.window
            and size <= writer.window
            and size <= writer.frame_size
            and not writer.is_crowded()
        ):
            if size or last:
                self.window -= size
                writer.window -= size
                self.open = not last
                writer.push(pack_header(size << 8 | DATA, END_STREAM if last else 0, self.sid) + data)
        else:
            self._pour(data, 0, size, last)

    def _overrun(self, data: bytes) -> None:
        promised = self.response.content_size
        data = data[: self.left]
        self.left = 0
        self.done = True
        if self.head is not None:
            self._send_head(0)
        self._send_content(data, True)
        self.response.bytes_sent += len(data)
        raise LengthMismatch(f"more content was sent than the Content-Length of {promised} bytes")

    def send_file(self, file: int, start: int, size: int, last: bool = False) -> None:
        """Sends a part of an open file as a piece of the content."""
        if self.done:
            raise ClientGone("the response has ended")
        conn = self.conn
        if conn is None or self.gone >= 0:
            self._raise_gone()
        if self.quiet:
            self.flush()
            if last:
                self.finish()
            return
        if 0 <= self.left < size:
            raise LengthMismatch(
                f"the file is larger than the Content-Length of {self.response.content_size} bytes"
            )
        if self.left >= 0:
            self.left -= size
        ends = last and self.left <= 0
        if self.head is not None:
            self._send_head(0)
        if size <= conn.writer.frame_size:
            data = os.pread(file, size, start)
            if len(data) < size:
                raise EOFError(f"the file ends {size - len(data)} bytes early")
            self.done = ends
            self._send_content(data, ends)
        else:
            self._pour(file, start, start + size, ends)
            self.done = ends
        self.response.bytes_sent += size
        if last:
            self.finish()

    def send_trailers(self, fields: list[tuple[bytes, bytes]]) -> None:
        """Ends the message with these fields; a promised length must have been kept (RFC 9113 §8.1)."""
        if not self.done and not self.quiet and self.left <= 0 and self.open:
            if self.head is not None:
                self._send_head(0)
            self.done = True
            self.open = False
            block = b"".join([field_block(field) for field in fields])
            self._push(headers_frames(self.sid, block, END_STREAM, self.conn.writer.frame_size))
        else:
            self.finish()

    def finish(self) -> None:
        """Ends the message. Raises LengthMismatch when less was sent than promised: the stream is then reset."""
        if self.done:
            return
        self.done = True
        if self.left > 0:
            missing = self.left
            self.abort()
            raise LengthMismatch(f"{missing} bytes of the promised content are missing")
        if self.head is not None:
            self._send_head(END_STREAM)
        elif self.open:
            self.open = False
            self._push(pack_header(DATA, END_STREAM, self.sid))

    def abort(self) -> None:
        """Resets the stream, so that the client can't take the message for a whole one."""
        self.done = True
        if self.conn is not None and self.gone < 0:
            self.conn.reset(self, INTERNAL_ERROR)

    def retract(self) -> bool:
        """Takes back a head that has not gone out, so that another can be sent. False when it is too late."""
        if self.head is None:
            return False
        self.head, self.left = None, -1
        self.quiet = self.done = self.response.is_sent = False
        self.response = None
        return True

    def is_gone(self) -> bool:
        """Whether the client has closed the connection or reset the stream."""
        return self.conn is None or self.gone >= 0

    # The tunnel

    def take_over(self, resp: Response, protocol: bytes) -> tuple[TunnelChannel, bytes]:
        """Accepts an extended CONNECT: sends status 200, and gives the stream up as a channel (RFC 8441 §5)."""
        conn = self.conn
        if conn is None or self.done or resp.is_sent or self.gone >= 0 or not self.protocol:
            self._raise_gone()
        self.response = resp
        resp.status = 200
        self.protocol = b""
        resp.content_type, resp.content_size = "", -1
        block = self._make_block(resp)
        self.keep_alive = False
        self.done = self.tunnel = True
        self._push(headers_frames(self.sid, block, 0, conn.writer.frame_size))
        return TunnelChannel(self), b""

    def send_tunnel(self, data: bytes, last: bool) -> None:
        """Sends a piece of what the tunnel carries, or its end. Raises ClientGone."""
        self._send_content(data, last)

    # Sending

    def _push(self, frames: bytes) -> None:
        conn = self.conn
        if conn is None or self.gone >= 0:
            self._raise_gone()
        conn.writer.push(frames)

    def _raise_gone(self) -> NoReturn:
        if self.gone >= 0:
            self.keep_alive = False
            raise ClientGone(f"the stream has been reset: {name_of(self.gone)}")
        raise ClientGone("the exchange has ended")

    def _pour(self, source: bytes | int, start: int, end: int, last: bool) -> None:
        """Waits until the writer has taken everything from the source. Raises ClientGone."""
        conn = self.conn
        self._load(source, start, end, last)
        try:
            while self.source is not None:
                if self.gone >= 0:
                    self._raise_gone()
                conn.writer.offer(self)
                self.sent = self.at
                self.blocked = monotonic() + self.server.write_timeout
                conn.watch(self.blocked)
                self.waiter = getcurrent()
                get_hub().switch()
        finally:
            self.waiter = self.source = None
            conn.writer.forget(self)
        if self.fault is not None:
            fault, self.fault = self.fault, None
            raise fault

    def _load(self, source: bytes | int, start: int, end: int, last: bool) -> None:
        self.source, self.at, self.end, self.closes = source, start, end, last

    def wake_sender(self) -> None:
        """Has whoever waits for the source to be sent look again."""
        if self.waiter is not None:
            get_hub().loop.run_callback(self._resume)

    def wake(self) -> None:
        """Has whoever waits look again."""
        self.wake_sender()
        if self.content is not None:
            self.content.wake()

    def _resume(self) -> None:
        waiter, self.waiter = self.waiter, None
        if waiter is not None:
            waiter.switch()

    def cut_off(self, code: int) -> None:
        """Notes that the stream has been reset, and wakes whoever waits."""
        if self.gone < 0:
            self.gone = code
            self.open = False
            self.conn.writer.forget(self)
            self.wake()

    def conclude(self) -> None:
        """Ends the stream behind its exchange, and lets go of everything: circles would make work for the collector."""
        conn = self.conn
        if self.gone < 0:
            if self.open and self.tunnel:
                self.open = False
                conn.writer.push(pack_header(DATA, END_STREAM, self.sid))
            if self.open:
                conn.reset(self, INTERNAL_ERROR)
            elif (
                self.content is not None
                and not self.content.complete
                and not conn.leftovers.take(self, self.content)
            ):
                # The answer is whole; the rest of the request is not wanted (RFC 9113 §8.1).
                conn.reset(self, NO_ERROR)
        if self.content is not None:
            conn.drop(self.content)
            self.content.stream = None  # type: ignore[assignment]
            self.content = None
        conn.close_stream(self)
        self.conn = self.request = self.response = self.greenlet = None  # type: ignore[assignment]
