"""The client's side of HTTP/2: connections to nodes, each shared by many exchanges (RFC 9113).

The `h2` package keeps the states and makes the frames; a `Backend2Conn` moves the bytes. One greenlet reads, and hands
what comes to the streams (hemi.web.h2.clientstream); one writes, and gathers what they have to say into one send.

Laws of this module:
- A connection counts as open when the node's SETTINGS have come: what does not speak HTTP/2 is found out before a
  request is sent.
- A malformed response ends its stream; what breaks the connection's own state ends the connection.
- Memory is bounded by the streams' windows. The connection's window is opened at once: a client that reads slowly
  must not stop the others.
- Frames that say nothing are counted against those that do (SECURITY row 7).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from time import monotonic
from typing import TYPE_CHECKING, Any, NamedTuple

import gevent
from gevent import get_hub
from gevent.event import Event
from gevent.hub import Waiter
from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.errors import ErrorCodes
from h2.events import (
    DataReceived,
    InformationalResponseReceived,
    PingAckReceived,
    RemoteSettingsChanged,
    ResponseReceived,
    StreamEnded,
    StreamReset,
    TrailersReceived,
    WindowUpdated,
)
from h2.exceptions import H2Error, NoAvailableStreamIDError, TooManyStreamsError
from h2.settings import SettingCodes, Settings
from h2.stream import StreamInputs, StreamState

from hemi.upstream.errors import DialFailed, reason_of
from hemi.web.errors import NotProcessed
from hemi.web.h1.answer import BadAnswer, Head
from hemi.web.h2.clienthead import RequestFields
from hemi.web.h2.clientstream import Backend2Stream
from hemi.web.h2.clienttables import Decoder, Encoder
from hemi.web.h2.errors import ConnectionFault

if TYPE_CHECKING:
    from hemi.upstream.dial import Dialed
    from hemi.upstream.node import Node

__all__ = ["Backend2Conn", "Terms"]

RECV_SIZE = 262144
MAX_FRAME = 65536
"""The largest frame that nodes may send: four times the least, for a quarter of the work."""

CONN_WINDOW = 2**31 - 1
REFILL = 2**30

MAX_UNSENT = 262144
"""Bytes that wait for the socket before streams have to wait."""

MAX_REPLIES = 524288
"""Bytes that wait for the socket before nothing is read any more: a node must take the answers to what it asks."""

CREDIT = 1000
"""How many frames that say nothing a node may send in a row; each one that says something makes up for a few."""

BOMB = 4
"""How many times the largest head a block of fields may unpack to, before it ends the connection."""

LAST_WORDS = 1.0
"""Seconds that a connection has to send why it ends."""

_DATA, _HEADERS, _SETTINGS, _GOAWAY, _WINDOW_UPDATE = 0, 1, 4, 7, 8
_END_STREAM, _PADDED = 1, 8
_RECEIVING = (StreamState.OPEN, StreamState.HALF_CLOSED_LOCAL)


class Terms(NamedTuple):
    """What a backend says about its connections. Times are in seconds, sizes in bytes; `known` has the heads of
    responses that were seen before, `known_requests` those of requests."""

    scheme: bytes = b"http"
    max_streams: int = 100
    max_head: int = 65536
    window: int = 262144
    write_timeout: float = 60.0
    ping_interval: float = 300.0
    ping_timeout: float = 10.0
    known: dict[Any, Head] = {}
    known_requests: dict[bytes, RequestFields] = {}


class _Broken(Exception):
    """What the node sends makes no sense, or is too much of it."""

    def __init__(self, reason: str, code: ErrorCodes = ErrorCodes.PROTOCOL_ERROR) -> None:
        super().__init__(reason)
        self.code = code


class Backend2Conn:
    """A connection to a node, which carries up to `width` streams at a time, and now `count` of them.

    `on_end` is called once, when it has ended. `deadline` is for the sweeper, which thereby looks at those of the
    streams each time.
    """

    __slots__ = (
        "_buffer",
        "_credit",
        "_h2",
        "_last",
        "_out",
        "_pinged",
        "_reading",
        "_ready",
        "_received",
        "_spoken",
        "_unsent",
        "_waiter",
        "_writing",
        "blocked",
        "born",
        "channel",
        "count",
        "deadline",
        "draining",
        "ended",
        "has_connect",
        "heard",
        "idle_since",
        "node",
        "on_end",
        "scheme",
        "streams",
        "terms",
        "uses",
        "width",
    )

    is_shared = True

    def __init__(
        self, node: Node, channel: Dialed, terms: Terms, now: float, on_end: Callable[[Backend2Conn], None]
    ) -> None:
        self.node = node
        self.channel = channel
        self.terms = terms
        self.scheme = terms.scheme
        self.on_end = on_end
        self.born = self.idle_since = self.heard = now
        self.deadline = -math.inf
        self.uses = 0
        self.count = 0
        self.width = terms.max_streams
        self.draining = False
        self.has_connect = False
        """The node takes extended CONNECT requests (RFC 8441)."""
        self.ended: str | None = None
        """Why it has ended, None while it has not."""
        self.streams: dict[int, Backend2Stream] = {}
        self.blocked: set[Backend2Stream] = set()
        """The streams that wait until they can send."""
        self._h2 = H2Connection(
            H2Configuration(
                client_side=True,
                header_encoding=None,
                validate_outbound_headers=False,  # they were made here
                normalize_outbound_headers=False,
                validate_inbound_headers=False,  # what is wrong in them ends the stream, not the connection
                normalize_inbound_headers=False,
            )
        )
        self._buffer = bytearray()
        self._credit = CREDIT
        self._last = math.inf  # the last stream that the node will answer
        self._out: list[bytes] = []
        self._unsent = 0
        self._received = 0
        self._spoken = False  # the first frame has come
        self._pinged = math.inf  # when it was asked whether it lives
        self._ready = Event()
        self._waiter: Any = None
        self._reading: Any = None
        self._writing: Any = None

    def __repr__(self) -> str:
        state = self.ended or ("draining" if self.draining else "open")
        return f"<Backend2Conn {self.node.key} {state} streams={self.count}/{self.width} uses={self.uses}>"

    # Beginning

    def start(self, deadline: float) -> Backend2Conn:
        """Exchanges prefaces and settings (§3.4). Raises DialFailed, with the connection closed."""
        h2: Any = self._h2
        terms = self.terms
        h2.local_settings = Settings(
            client=True,
            initial_values={
                SettingCodes.ENABLE_PUSH: 0,
                SettingCodes.INITIAL_WINDOW_SIZE: terms.window,
                SettingCodes.MAX_FRAME_SIZE: MAX_FRAME,
                SettingCodes.MAX_HEADER_LIST_SIZE: terms.max_head,
            },
        )
        h2.max_inbound_frame_size = MAX_FRAME
        h2.encoder = Encoder()
        h2.decoder = Decoder(4096, terms.max_head * BOMB)
        h2.initiate_connection()
        h2.increment_flow_control_window(CONN_WINDOW - 65535)
        self._reading = gevent.spawn(self._read)
        self._writing = gevent.spawn(self._write)
        self._flush()
        try:
            self._ready.wait(max(0.001, deadline - monotonic()))
        except BaseException:
            self.end("its opening was given up")
            raise
        if self.ended is not None or not self._ready.is_set() or not self.width:
            timed_out = not self._ready.is_set()
            reason = self.ended or ("no settings in time" if timed_out else "it takes no requests")
            self.end(reason)
            raise DialFailed(reason, node=self.node.key, phase="http2", timed_out=timed_out)
        return self

    def open_stream(self) -> Backend2Stream:
        """A place for an exchange, which counts from now on."""
        self.count += 1
        self.uses += 1
        return Backend2Stream(self)

    # What streams send

    def begin(self, stream: Backend2Stream, fields: list[tuple[bytes, bytes]], last: bool) -> None:
        """Sends the head of a request. Raises NotProcessed when that can't be any more."""
        if self.ended is not None:
            raise NotProcessed(self.ended)
        if self._last < math.inf:
            raise NotProcessed("the node said that it takes no more requests")
        h2 = self._h2
        try:
            number = h2.get_next_available_stream_id()
            h2.send_headers(number, fields, last)
        except (TooManyStreamsError, NoAvailableStreamIDError) as error:
            self.draining = self.draining or isinstance(error, NoAvailableStreamIDError)
            raise NotProcessed("the node takes no more requests at a time") from error
        # The package would end the connection for a length that is wrong; it is the stream that is malformed (§8.1.1).
        made: Any = h2.streams[number]
        made._initialize_content_length = _no_length
        stream.number = number
        self.streams[number] = stream
        self._flush()

    def room(self, number: int) -> int:
        """How many bytes of content may go out now."""
        if self._unsent > MAX_UNSENT:
            return 0
        h2 = self._h2
        return min(h2.local_flow_control_window(number), h2.max_outbound_frame_size)

    def send_data(self, number: int, data: bytes, last: bool) -> None:
        """Sends content for which there is room."""
        self._h2.send_data(number, data, last)
        self._credit = min(CREDIT, self._credit + 2)  # it will be answered by frames about windows
        self._flush()

    def send_trailers(self, number: int, fields: list[tuple[bytes, bytes]]) -> None:
        """Ends a request with fields."""
        self._h2.send_headers(number, fields, True)
        self._flush()

    def end_stream(self, number: int) -> None:
        """Ends a request."""
        self._h2.end_stream(number)
        self._flush()

    def open_window(self, number: int, size: int) -> None:
        """Lets the node send more on a stream."""
        if self.ended is None:
            self._h2.increment_flow_control_window(size, number)
            self._flush()

    def release(self, stream: Backend2Stream, is_done: bool) -> None:
        """Takes a place back. A stream that is not done is reset: the node can stop working for it."""
        self.count -= 1
        self.blocked.discard(stream)
        number = stream.number
        if self.streams.pop(number, None) is not None and not is_done:
            self._reset(number, ErrorCodes.CANCEL)
            if stream.late and self.heard < stream.since:
                self._ping(monotonic())  # not a word since the request: perhaps nobody is there any more
        if not self.count:
            self.idle_since = monotonic()
            if self.draining:
                self.end("it was to end")

    def _reset(self, number: int, code: ErrorCodes) -> None:
        if self.ended is None:
            try:
                self._h2.reset_stream(number, code)
            except H2Error:
                return  # the node was faster
            self._flush()

    # Life

    def drain(self) -> None:
        """Has no new streams any more, and ends with the last one."""
        self.draining = True
        if not self.count:
            self.end("it was to end")

    def look_after(self, now: float) -> None:
        """Finds out whether the node still lives, when it has been silent for long."""
        if now - self._pinged >= self.terms.ping_timeout:
            self.end("the node does not answer PING")
        elif self.terms.ping_interval and now - max(self.heard, self.born) >= self.terms.ping_interval:
            self._ping(now)

    def _ping(self, now: float) -> None:
        if self._pinged == math.inf and self.ended is None:
            self._pinged = now
            self._h2.ping(b"gorox-up")
            self._flush()

    def cut(self, now: float) -> None:
        """Cuts those of the streams that are late: the sweeper's call."""
        for stream in list(self.streams.values()):
            if stream.deadline < now or stream.send_deadline < now:
                stream.cut(now)

    def end(self, reason: str, code: ErrorCodes = ErrorCodes.NO_ERROR) -> None:
        """Ends the connection, and what is on it. Does not wait. Idempotent."""
        if self.ended is not None:
            return
        self.ended = reason
        self.draining = True
        self.on_end(self)
        try:
            self._h2.close_connection(code)
        except H2Error:
            pass  # it has said so by itself
        data = self._h2.data_to_send()
        if data:
            self._out.append(data)
        error = ConnectionAbortedError(reason)
        for stream in list(self.streams.values()):
            stream.fail(error)
        self._ready.set()
        self.channel.deadline = min(self.channel.deadline, monotonic() + LAST_WORDS)
        if self._reading is not gevent.getcurrent():
            self._reading.kill(block=False)
        self._wake_writer()

    def _close(self) -> None:
        self.channel.close()
        channels = self.node.backend.channels
        if self.channel in channels:
            channels.remove(self.channel)
            self.node.conns -= 1

    # Writing

    def _flush(self) -> None:
        """Hands what there is to say to the writer."""
        data = self._h2.data_to_send()
        if data:
            self._out.append(data)
            self._unsent += len(data)
            self._wake_writer()

    def _wake_writer(self) -> None:
        waiter = self._waiter
        if waiter is not None:
            self._waiter = None
            get_hub().loop.run_callback(waiter.switch, None)

    def _write(self) -> None:
        """Sends; the body of a greenlet, which also closes the channel at the end."""
        try:
            while True:
                while self._out:
                    pieces, self._out = self._out, []
                    data = pieces[0] if len(pieces) == 1 else b"".join(pieces)
                    self.channel.send(data)
                    self._unsent -= len(data)
                    if self.blocked and self._unsent <= MAX_UNSENT:
                        self._wake_blocked()
                if self.ended is not None:
                    return
                self._waiter = Waiter()
                try:
                    self._waiter.get()
                finally:
                    self._waiter = None
        except OSError as error:
            self.end(reason_of(error))
        finally:
            self._close()

    def _wake_blocked(self) -> None:
        for stream in self.blocked:
            stream.wake_writer()

    # Reading

    def _read(self) -> None:
        """Reads; the body of a greenlet."""
        channel = self.channel
        try:
            while self.ended is None:
                data = channel.recv_waiting(RECV_SIZE)
                if not data:
                    self.end("the node closed the connection")
                    return
                self.heard = monotonic()
                self._take(data)
                while self._unsent > MAX_REPLIES and self.ended is None:
                    gevent.sleep(0.01)
        except _Broken as error:
            self._complain(str(error), error.code)
        except ConnectionFault as error:  # of the decoder
            self._complain(f"it breaks the rules of HTTP/2: {error}", ErrorCodes(error.code))
        except H2Error as error:
            code = getattr(error, "error_code", ErrorCodes.PROTOCOL_ERROR)
            self._complain(f"it breaks the rules of HTTP/2: {str(error) or type(error).__name__}", code)
        except OSError as error:
            self.end(reason_of(error))
        except Exception as error:
            self.node.backend.stage.log.error("backend", f"reading from {self.node.key} failed", error)
            self.end(f"reading failed: {type(error).__name__}", ErrorCodes.INTERNAL_ERROR)

    def _complain(self, reason: str, code: ErrorCodes) -> None:
        if self._ready.is_set():
            backend = self.node.backend
            backend.log_warning(f"node {self.node.key}: the connection is closed: {reason}")
        self.end(reason, code)

    def _take(self, data: bytes) -> None:
        """Takes whole frames. One at a time: an error in one must not lose what came before it."""
        buffer = self._buffer
        buffer += data
        at, end = 0, len(buffer)
        if not self._spoken and end >= 9:
            if buffer[3] != _SETTINGS:
                is_old = buffer.startswith(b"HTTP/")
                raise _Broken("it speaks HTTP/1" if is_old else "it does not speak HTTP/2")
            self._spoken = True
        while end - at >= 9:
            size = (buffer[at] << 16) | (buffer[at + 1] << 8) | buffer[at + 2]
            if size > MAX_FRAME:
                raise _Broken(f"a frame of {size} bytes", ErrorCodes.FRAME_SIZE_ERROR)
            if end - at < 9 + size:
                break
            kind = buffer[at + 3]
            begin, at = at, at + 9 + size
            if not size or kind not in (_DATA, _HEADERS):
                self._credit -= 1
                if self._credit < 0:
                    raise _Broken("a flood of frames that say nothing", ErrorCodes.ENHANCE_YOUR_CALM)
            elif self._credit < CREDIT:
                self._credit += 1
            if kind == _DATA and size and self._take_plain_data(buffer, begin, at):
                continue
            frame = bytes(buffer[begin:at])
            if kind == _GOAWAY:
                # The package would take nothing any more, of the streams neither that go on.
                self._take_goaway(frame)
                continue
            if kind == _WINDOW_UPDATE and size == 4 and not any(frame[5:9]):
                self._take_conn_window(frame)
                continue
            for event in self._h2.receive_data(frame):
                handler = _HANDLERS.get(event.__class__)
                if handler is not None:
                    handler(self, event)
        del buffer[:at]
        self._flush()

    def _take_goaway(self, frame: bytes) -> None:
        """No more requests; those above the last one were not processed (§6.8)."""
        if len(frame) < 17 or any(frame[5:9]):
            raise _Broken("a malformed GOAWAY", ErrorCodes.FRAME_SIZE_ERROR)
        self._last = min(self._last, int.from_bytes(frame[9:13]) & 0x7FFFFFFF)
        self.draining = True
        error = NotProcessed("the node says that it did not begin with the request (GOAWAY)")
        for number, stream in list(self.streams.items()):
            if number > self._last:
                self._reset(number, ErrorCodes.CANCEL)
                stream.fail(error)
        if not self.count:
            self.end("the node said that it is the end")

    def _take_conn_window(self, frame: bytes) -> None:
        """The node takes more on the connection (§6.9). Servers of gRPC say so for each call: it would be a tenth of
        what the package takes for one."""
        increment = int.from_bytes(frame[9:13]) & 0x7FFFFFFF
        window = self._h2.outbound_flow_control_window + increment
        if not increment or window > CONN_WINDOW:
            raise _Broken(
                "a window that cannot be",
                ErrorCodes.FLOW_CONTROL_ERROR if increment else ErrorCodes.PROTOCOL_ERROR,
            )
        self._h2.outbound_flow_control_window = window
        self._wake_blocked()

    def _take_response(self, event: Any) -> None:
        stream = self.streams.get(event.stream_id)
        if stream is not None:
            ended = getattr(event, "stream_ended", None) is not None
            try:
                stream.take_head(event.headers, ended)
            except BadAnswer as error:
                self._refuse(stream, error)

    def _refuse(self, stream: Backend2Stream, error: BadAnswer) -> None:
        """A malformed response ends its stream, whatever follows."""
        self._reset(stream.number, ErrorCodes.PROTOCOL_ERROR)
        del self.streams[stream.number]
        stream.fail(error)

    def _take_trailers(self, event: Any) -> None:
        stream = self.streams.get(event.stream_id)
        if stream is not None:
            try:
                stream.take_trailers(event.headers)
            except BadAnswer as error:
                self._refuse(stream, error)

    def _take_plain_data(self, buffer: bytearray, begin: int, end: int) -> bool:
        """Takes a frame of content past the package; returns False when the package must decide about it.

        Padding, and whatever is not in its place, is the package's; windows and states are kept as it keeps them. An
        answer of 300 KB takes half of the time, a small one three quarters (measured, 2 connections × 32 streams).
        """
        flags = buffer[begin + 4]
        number = int.from_bytes(buffer[begin + 5 : begin + 9]) & 0x7FFFFFFF
        made = self._h2.streams.get(number) if not flags & _PADDED else None
        if made is None or number not in self.streams:
            return False
        machine = made.state_machine
        if machine.state not in _RECEIVING or not machine.headers_received:
            return False
        size = end - begin - 9
        self._h2._inbound_flow_control_window_manager.window_consumed(size)
        made._inbound_window_manager.window_consumed(size)
        if flags & _END_STREAM:
            machine.process_input(StreamInputs.RECV_END_STREAM)
        self._take_content(number, bytes(buffer[begin + 9 : end]), size)
        if flags & _END_STREAM:
            self._take_last(number)
        return True

    def _take_data(self, event: Any) -> None:
        self._take_content(event.stream_id, event.data, event.flow_controlled_length)

    def _take_content(self, number: int, data: bytes, size: int) -> None:
        self._received += size
        if self._received >= REFILL:
            self._h2.increment_flow_control_window(self._received)
            self._received = 0
        stream = self.streams.get(number)
        if stream is not None:
            try:
                stream.take_data(data, size)
            except BadAnswer as error:
                self._refuse(stream, error)

    def _take_end(self, event: Any) -> None:
        self._take_last(event.stream_id)

    def _take_last(self, number: int) -> None:
        stream = self.streams.get(number)
        if stream is not None:
            try:
                stream.take_end()
            except BadAnswer as error:
                self._refuse(stream, error)

    def _take_reset(self, event: Any) -> None:
        stream = self.streams.get(event.stream_id)
        if stream is None:
            return
        code = event.error_code
        name = getattr(code, "name", str(code))
        error: Exception
        if code == ErrorCodes.REFUSED_STREAM:
            error = NotProcessed("the node refused the stream")
        else:
            error = ConnectionResetError(f"the node reset the stream: {name}")
        del self.streams[stream.number]
        stream.fail(error)

    def _take_window(self, event: Any) -> None:
        stream = self.streams.get(event.stream_id)
        if stream is not None:
            stream.wake_writer()

    def _take_settings(self, event: Any) -> None:
        settings = self._h2.remote_settings
        self.width = min(self.terms.max_streams, settings.max_concurrent_streams)
        self.has_connect = bool(settings.enable_connect_protocol)
        self._ready.set()
        self._wake_blocked()

    def _take_pong(self, event: Any) -> None:
        self._pinged = math.inf


def _no_length(fields: Any) -> None:
    """In place of what the package makes of Content-Length; `Backend2Stream` looks at it."""


_HANDLERS: dict[type, Callable[[Backend2Conn, Any], None]] = {
    DataReceived: Backend2Conn._take_data,
    InformationalResponseReceived: Backend2Conn._take_response,
    PingAckReceived: Backend2Conn._take_pong,
    RemoteSettingsChanged: Backend2Conn._take_settings,
    ResponseReceived: Backend2Conn._take_response,
    StreamEnded: Backend2Conn._take_end,
    StreamReset: Backend2Conn._take_reset,
    TrailersReceived: Backend2Conn._take_trailers,
    WindowUpdated: Backend2Conn._take_window,
}
