"""What comes from a node over HTTP/2: frames, most of them by way of the `h2` package, and what each does to the
connection and its streams (RFC 9113 §5.1, §6).

Laws of this module:
- A malformed response ends its stream; what breaks the connection's own state ends the connection.
- Frames that say nothing are counted against those that do (SECURITY row 7).
- What goes past the package leaves its windows and states as it would leave them itself.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

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
from h2.stream import StreamInputs, StreamState

from hemi.web.errors import NotProcessed
from hemi.web.h1.answer import BadAnswer

if TYPE_CHECKING:
    from hemi.web.h2.backend import Backend2Conn
    from hemi.web.h2.clientstream import Backend2Stream

__all__ = ["CONN_WINDOW", "CREDIT", "MAX_FRAME", "Broken", "take"]

MAX_FRAME = 65536
"""The largest frame that nodes may send: four times the least, for a quarter of the work."""

CONN_WINDOW = 2**31 - 1
REFILL = 2**30

CREDIT = 1000
"""How many frames that say nothing a node may send in a row; each one that says something makes up for a few."""

_DATA, _HEADERS, _SETTINGS, _GOAWAY, _WINDOW_UPDATE = 0, 1, 4, 7, 8
_END_STREAM, _PADDED = 1, 8
_RECEIVING = (StreamState.OPEN, StreamState.HALF_CLOSED_LOCAL)


class Broken(Exception):
    """What the node sends makes no sense, or is too much of it."""

    def __init__(self, reason: str, code: ErrorCodes = ErrorCodes.PROTOCOL_ERROR) -> None:
        super().__init__(reason)
        self.code = code


def take(conn: Backend2Conn, data: bytes) -> None:
    """Takes whole frames. One at a time: an error in one must not lose what came before it."""
    buffer = conn.buffer
    buffer += data
    at, end = 0, len(buffer)
    if not conn.spoken and end >= 9:
        if buffer[3] != _SETTINGS:
            is_old = buffer.startswith(b"HTTP/")
            raise Broken("it speaks HTTP/1" if is_old else "it does not speak HTTP/2")
        conn.spoken = True
    while end - at >= 9:
        size = (buffer[at] << 16) | (buffer[at + 1] << 8) | buffer[at + 2]
        if size > MAX_FRAME:
            raise Broken(f"a frame of {size} bytes", ErrorCodes.FRAME_SIZE_ERROR)
        if end - at < 9 + size:
            break
        kind = buffer[at + 3]
        begin, at = at, at + 9 + size
        if not size or kind not in (_DATA, _HEADERS):
            conn.credit -= 1
            if conn.credit < 0:
                raise Broken("a flood of frames that say nothing", ErrorCodes.ENHANCE_YOUR_CALM)
        elif conn.credit < CREDIT:
            conn.credit += 1
        if kind == _DATA and size and _take_plain_data(conn, buffer, begin, at):
            continue
        frame = bytes(buffer[begin:at])
        if kind == _GOAWAY:
            # The package would take nothing any more, of the streams neither that go on.
            _take_goaway(conn, frame)
            continue
        if kind == _WINDOW_UPDATE and size == 4 and not any(frame[5:9]):
            _take_conn_window(conn, frame)
            continue
        for event in conn.h2.receive_data(frame):
            handler = _HANDLERS.get(event.__class__)
            if handler is not None:
                handler(conn, event)
    del buffer[:at]
    conn.flush()


def _take_goaway(conn: Backend2Conn, frame: bytes) -> None:
    """No more requests; those above the last one were not processed (§6.8)."""
    if len(frame) < 17 or any(frame[5:9]):
        raise Broken("a malformed GOAWAY", ErrorCodes.FRAME_SIZE_ERROR)
    conn.last_stream = min(conn.last_stream, int.from_bytes(frame[9:13]) & 0x7FFFFFFF)
    conn.draining = True
    error = NotProcessed("the node says that it did not begin with the request (GOAWAY)")
    for number, stream in list(conn.streams.items()):
        if number > conn.last_stream:
            conn.reset(number, ErrorCodes.CANCEL)
            stream.fail(error)
    if not conn.count:
        conn.end("the node said that it is the end")


def _take_conn_window(conn: Backend2Conn, frame: bytes) -> None:
    """The node takes more on the connection (§6.9). Servers of gRPC say so for each call: it would be a tenth of
    what the package takes for one."""
    increment = int.from_bytes(frame[9:13]) & 0x7FFFFFFF
    window = conn.h2.outbound_flow_control_window + increment
    if not increment or window > CONN_WINDOW:
        raise Broken(
            "a window that cannot be",
            ErrorCodes.FLOW_CONTROL_ERROR if increment else ErrorCodes.PROTOCOL_ERROR,
        )
    conn.h2.outbound_flow_control_window = window
    conn.wake_blocked()


def _take_response(conn: Backend2Conn, event: Any) -> None:
    stream = conn.streams.get(event.stream_id)
    if stream is not None:
        ended = getattr(event, "stream_ended", None) is not None
        try:
            stream.take_head(event.headers, ended)
        except BadAnswer as error:
            _refuse(conn, stream, error)


def _refuse(conn: Backend2Conn, stream: Backend2Stream, error: BadAnswer) -> None:
    """A malformed response ends its stream, whatever follows."""
    conn.reset(stream.number, ErrorCodes.PROTOCOL_ERROR)
    del conn.streams[stream.number]
    stream.fail(error)


def _take_trailers(conn: Backend2Conn, event: Any) -> None:
    stream = conn.streams.get(event.stream_id)
    if stream is not None:
        try:
            stream.take_trailers(event.headers)
        except BadAnswer as error:
            _refuse(conn, stream, error)


def _take_plain_data(conn: Backend2Conn, buffer: bytearray, begin: int, end: int) -> bool:
    """Takes a frame of content past the package; returns False when the package must decide about it.

    Padding, and whatever is not in its place, is the package's; windows and states are kept as it keeps them. An
    answer of 300 KB takes half of the processor time, a small one a twentieth less (measured, alternating).
    """
    flags = buffer[begin + 4]
    number = int.from_bytes(buffer[begin + 5 : begin + 9]) & 0x7FFFFFFF
    made = conn.h2.streams.get(number) if not flags & _PADDED else None
    if made is None or number not in conn.streams:
        return False
    machine = made.state_machine
    if machine.state not in _RECEIVING or not machine.headers_received:
        return False
    size = end - begin - 9
    conn.h2._inbound_flow_control_window_manager.window_consumed(size)
    made._inbound_window_manager.window_consumed(size)
    if flags & _END_STREAM:
        machine.process_input(StreamInputs.RECV_END_STREAM)
    _take_content(conn, number, bytes(buffer[begin + 9 : end]), size)
    if flags & _END_STREAM:
        _take_last(conn, number)
    return True


def _take_data(conn: Backend2Conn, event: Any) -> None:
    _take_content(conn, event.stream_id, event.data, event.flow_controlled_length)


def _take_content(conn: Backend2Conn, number: int, data: bytes, size: int) -> None:
    conn.received += size
    if conn.received >= REFILL:
        conn.h2.increment_flow_control_window(conn.received)
        conn.received = 0
    stream = conn.streams.get(number)
    if stream is not None:
        try:
            stream.take_data(data, size)
        except BadAnswer as error:
            _refuse(conn, stream, error)


def _take_end(conn: Backend2Conn, event: Any) -> None:
    _take_last(conn, event.stream_id)


def _take_last(conn: Backend2Conn, number: int) -> None:
    stream = conn.streams.get(number)
    if stream is not None:
        try:
            stream.take_end()
        except BadAnswer as error:
            _refuse(conn, stream, error)


def _take_reset(conn: Backend2Conn, event: Any) -> None:
    stream = conn.streams.get(event.stream_id)
    if stream is None:
        return
    code = event.error_code
    name = getattr(code, "name", str(code))
    error: Exception
    if code == ErrorCodes.REFUSED_STREAM:
        error = NotProcessed("the node refused the stream")
    else:
        error = ConnectionResetError(f"the node reset the stream: {name}")
    del conn.streams[stream.number]
    stream.fail(error)


def _take_window(conn: Backend2Conn, event: Any) -> None:
    stream = conn.streams.get(event.stream_id)
    if stream is not None:
        stream.wake_writer()


def _take_settings(conn: Backend2Conn, event: Any) -> None:
    settings = conn.h2.remote_settings
    conn.width = min(conn.terms.max_streams, settings.max_concurrent_streams)
    conn.has_connect = bool(settings.enable_connect_protocol)
    conn.ready.set()
    conn.wake_blocked()


def _take_pong(conn: Backend2Conn, event: Any) -> None:
    conn.pinged = math.inf


_HANDLERS: dict[type, Callable[[Backend2Conn, Any], None]] = {
    DataReceived: _take_data,
    InformationalResponseReceived: _take_response,
    PingAckReceived: _take_pong,
    RemoteSettingsChanged: _take_settings,
    ResponseReceived: _take_response,
    StreamEnded: _take_end,
    StreamReset: _take_reset,
    TrailersReceived: _take_trailers,
    WindowUpdated: _take_window,
}
