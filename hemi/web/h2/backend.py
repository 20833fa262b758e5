"""The client's side of HTTP/2: connections to nodes, each shared by many exchanges (RFC 9113).

The `h2` package keeps the states and makes the frames; a `Backend2Conn` moves the bytes. One greenlet reads, and hands
what comes (hemi.web.h2.clientreceiving) to the streams (hemi.web.h2.clientstream); one writes, and gathers what they
have to say into one send.

Laws of this module:
- A connection counts as open when the node's SETTINGS have come: what does not speak HTTP/2 is found out before a
  request is sent.
- Memory is bounded by the streams' windows. The connection's window is opened at once: a client that reads slowly
  must not stop the others.
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
from h2.exceptions import H2Error, NoAvailableStreamIDError, TooManyStreamsError
from h2.settings import SettingCodes, Settings

from hemi.upstream.errors import DialFailed, reason_of
from hemi.web.errors import NotProcessed
from hemi.web.h1.answer import Head
from hemi.web.h2.clienthead import RequestFields
from hemi.web.h2.clientreceiving import CONN_WINDOW, CREDIT, MAX_FRAME, Broken, take
from hemi.web.h2.clientstream import Backend2Stream
from hemi.web.h2.clienttables import Decoder, Encoder
from hemi.web.h2.errors import ConnectionFault

if TYPE_CHECKING:
    from hemi.upstream.dial import Dialed
    from hemi.upstream.node import Node

__all__ = ["Backend2Conn", "Terms"]

RECV_SIZE = 262144
MAX_UNSENT = 262144
"""Bytes that wait for the socket before streams have to wait."""

MAX_REPLIES = 524288
"""Bytes that wait for the socket before nothing is read any more: a node must take the answers to what it asks."""

BOMB = 4
"""How many times the largest head a block of fields may unpack to, before it ends the connection."""

LAST_WORDS = 1.0
"""Seconds that a connection has to send why it ends."""


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


class Backend2Conn:
    """A connection to a node, which carries up to `width` streams at a time, and now `count` of them.

    `on_end` is called once, when it has ended. `deadline` is for the sweeper, which thereby looks at those of the
    streams each time.
    """

    __slots__ = (
        "_out",
        "_reading",
        "_unsent",
        "_waiter",
        "_writing",
        "blocked",
        "born",
        "buffer",
        "channel",
        "count",
        "credit",
        "deadline",
        "draining",
        "ended",
        "h2",
        "has_connect",
        "heard",
        "idle_since",
        "last_stream",
        "node",
        "on_end",
        "pinged",
        "ready",
        "received",
        "scheme",
        "spoken",
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
        self.h2 = H2Connection(
            H2Configuration(
                client_side=True,
                header_encoding=None,
                validate_outbound_headers=False,  # they were made here
                normalize_outbound_headers=False,
                validate_inbound_headers=False,  # what is wrong in them ends the stream, not the connection
                normalize_inbound_headers=False,
            )
        )
        self.buffer = bytearray()
        """What has come of a frame that is not whole yet."""
        self.credit = CREDIT
        """How many frames that say nothing may come now."""
        self.last_stream = math.inf
        """The last stream that the node will answer."""
        self.received = 0
        """Bytes of content that the window of the connection was not opened for again."""
        self.spoken = False
        """The first frame has come."""
        self.pinged = math.inf
        """When the node was asked whether it lives, infinity when no answer is due."""
        self.ready = Event()
        """Set when the node's SETTINGS have come."""
        self._out: list[bytes] = []
        self._unsent = 0
        self._waiter: Any = None
        self._reading: Any = None
        self._writing: Any = None

    def __repr__(self) -> str:
        state = self.ended or ("draining" if self.draining else "open")
        return f"<Backend2Conn {self.node.key} {state} streams={self.count}/{self.width} uses={self.uses}>"

    # Beginning

    def start(self, deadline: float) -> Backend2Conn:
        """Exchanges prefaces and settings (§3.4). Raises DialFailed, with the connection closed."""
        h2: Any = self.h2
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
        self.flush()
        try:
            self.ready.wait(max(0.001, deadline - monotonic()))
        except BaseException:
            self.end("its opening was given up")
            raise
        if self.ended is not None or not self.ready.is_set() or not self.width:
            timed_out = not self.ready.is_set()
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
        if self.last_stream < math.inf:
            raise NotProcessed("the node said that it takes no more requests")
        h2 = self.h2
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
        self.flush()

    def room(self, number: int) -> int:
        """How many bytes of content may go out now."""
        if self._unsent > MAX_UNSENT:
            return 0
        h2 = self.h2
        return min(h2.local_flow_control_window(number), h2.max_outbound_frame_size)

    def send_data(self, number: int, data: bytes, last: bool) -> None:
        """Sends content for which there is room."""
        self.h2.send_data(number, data, last)
        self.credit = min(CREDIT, self.credit + 2)  # it will be answered by frames about windows
        self.flush()

    def send_trailers(self, number: int, fields: list[tuple[bytes, bytes]]) -> None:
        """Ends a request with fields."""
        self.h2.send_headers(number, fields, True)
        self.flush()

    def end_stream(self, number: int) -> None:
        """Ends a request."""
        self.h2.end_stream(number)
        self.flush()

    def open_window(self, number: int, size: int) -> None:
        """Lets the node send more on a stream."""
        if self.ended is None:
            self.h2.increment_flow_control_window(size, number)
            self.flush()

    def release(self, stream: Backend2Stream, is_done: bool) -> None:
        """Takes a place back. A stream that is not done is reset: the node can stop working for it."""
        self.count -= 1
        self.blocked.discard(stream)
        number = stream.number
        if self.streams.pop(number, None) is not None and not is_done:
            self.reset(number, ErrorCodes.CANCEL)
            if stream.late and self.heard < stream.since:
                self._ping(monotonic())  # not a word since the request: perhaps nobody is there any more
        if not self.count:
            self.idle_since = monotonic()
            if self.draining:
                self.end("it was to end")

    def reset(self, number: int, code: ErrorCodes) -> None:
        """Resets a stream, unless it is at its end."""
        if self.ended is None:
            try:
                self.h2.reset_stream(number, code)
            except H2Error:
                return  # the node was faster
            self.flush()

    # Life

    def drain(self) -> None:
        """Has no new streams any more, and ends with the last one."""
        self.draining = True
        if not self.count:
            self.end("it was to end")

    def look_after(self, now: float) -> None:
        """Finds out whether the node still lives, when it has been silent for long."""
        if now - self.pinged >= self.terms.ping_timeout:
            self.end("the node does not answer PING")
        elif self.terms.ping_interval and now - max(self.heard, self.born) >= self.terms.ping_interval:
            self._ping(now)

    def _ping(self, now: float) -> None:
        if self.pinged == math.inf and self.ended is None:
            self.pinged = now
            self.h2.ping(b"gorox-up")
            self.flush()

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
            self.h2.close_connection(code)
        except H2Error:
            pass  # it has said so by itself
        data = self.h2.data_to_send()
        if data:
            self._out.append(data)
        error = ConnectionAbortedError(reason)
        for stream in list(self.streams.values()):
            stream.fail(error)
        self.ready.set()
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

    def flush(self) -> None:
        """Hands what there is to say to the writer."""
        data = self.h2.data_to_send()
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
                        self.wake_blocked()
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

    def wake_blocked(self) -> None:
        """Lets the streams look that wait until they can send."""
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
                take(self, data)
                while self._unsent > MAX_REPLIES and self.ended is None:
                    gevent.sleep(0.01)
        except Broken as error:
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
        if self.ready.is_set():
            backend = self.node.backend
            backend.log_warning(f"node {self.node.key}: the connection is closed: {reason}")
        self.end(reason, code)


def _no_length(fields: Any) -> None:
    """In place of what the package makes of Content-Length; `Backend2Stream` looks at it."""
