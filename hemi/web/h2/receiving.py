"""Frames that have come: what each does to a connection and its streams (RFC 9113 §5.1, §6; RFC 9218 §7.1).

One function a kind, in a table; field blocks are taken by `hemi.web.h2.opening`. What comes on a stream that is closed
depends on who closed it: behind our own reset the client could not know yet (§5.4.2).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from hemi.web.h2.errors import (
    ENHANCE_YOUR_CALM,
    FLOW_CONTROL_ERROR,
    FRAME_SIZE_ERROR,
    NO_ERROR,
    PROTOCOL_ERROR,
    STREAM_CLOSED,
    ConnectionFault,
    StreamFault,
)
from hemi.web.h2.frames import (
    ACK,
    CONTINUATION,
    DATA,
    END_HEADERS,
    END_STREAM,
    GOAWAY,
    HEADERS,
    KINDS,
    LAST_ID,
    MAX_WINDOW,
    PADDED,
    PING,
    PRIORITY,
    PRIORITY_UPDATE,
    PUSH_PROMISE,
    RST_STREAM,
    SETTINGS,
    WINDOW_UPDATE,
    check,
    check_dependency,
    frame,
    split_headers,
    unpad,
    word_of,
)
from hemi.web.h2.opening import begin_block, end_content, take_block
from hemi.web.h2.priority import parse_priority
from hemi.web.h2.settings import (
    INITIAL_WINDOW_SIZE,
    MAX_FRAME_SIZE,
    SETTINGS_ACK,
    parse_settings,
)

if TYPE_CHECKING:
    from hemi.web.h2.conn import Server2Conn
    from hemi.web.h2.stream import Server2Stream

MOST_FRAME = 65536
"""The largest frames that we send, whatever a client allows: others shall get their turn."""

MAX_FRAGMENTS = 32
"""Into how many frames of less than 1 KiB a field block may be cut."""

MAX_PRIORITIES = 100
"""How many PRIORITY_UPDATE are remembered for streams that are still to come."""


def receive(conn: Server2Conn, kind: int, flags: int, sid: int, payload: bytes) -> None:
    """Takes a frame. Raises ConnectionFault, StreamFault."""
    if conn.block is not None and (kind != CONTINUATION or conn.block.sid != sid):
        raise ConnectionFault(PROTOCOL_ERROR, "a frame in the middle of a field block")
    known = KINDS.get(kind)
    if known is None:
        conn.calm.suspect("unknown frames")
        return
    check(known, sid, len(payload))
    HANDLERS[kind](conn, flags, sid, payload)


def _find(conn: Server2Conn, sid: int, what: str) -> Server2Stream | None:
    """The stream of a frame; None for one that is closed. Raises ConnectionFault for one that was never opened."""
    stream = conn.streams.get(sid)
    if stream is None and (sid > conn.last_id or not sid & 1 or sid in conn.skipped):
        raise ConnectionFault(PROTOCOL_ERROR, f"{what} on stream {sid}, which is idle")
    return stream


def _on_data(conn: Server2Conn, flags: int, sid: int, payload: bytes) -> None:
    size = len(payload)
    stream = _find(conn, sid, "DATA")
    if not conn.inflow.receive(size):
        raise ConnectionFault(FLOW_CONTROL_ERROR, "more content than the window of the connection")
    if flags & PADDED:
        data = unpad(flags, payload)
        conn.took(size - len(data))
    else:
        data = payload
    if stream is None or stream.gone >= 0:
        conn.took(len(data))
        if sid in conn.leftovers.left:
            if not data and not flags & END_STREAM:
                conn.calm.suspect("empty DATA")
            conn.leftovers.drop(sid, size, bool(flags & END_STREAM))
        elif stream is None and sid not in conn.resets:
            raise ConnectionFault(STREAM_CLOSED, f"DATA on stream {sid}, which is closed")
        return
    content = stream.content
    if content is None or content.complete:
        conn.took(len(data))
        raise StreamFault(sid, STREAM_CLOSED, "DATA behind the end of the stream")
    if not content.inflow.receive(size):
        conn.took(len(data))
        raise StreamFault(sid, FLOW_CONTROL_ERROR, "more content than the window of the stream")
    if size > len(data):
        content.inflow.left += size - len(data)
        conn.send_window(sid, size - len(data))
    if data:
        content.arrived += len(data)
        if 0 <= content.size < content.arrived:
            conn.took(len(data))
            raise StreamFault(sid, PROTOCOL_ERROR, "more content than the content-length says")
        content.expect = False
        content.chunks.append(data)
        if conn.calm.frames.left < conn.calm.frames.most:
            conn.calm.frames.left += 1
    elif not flags & END_STREAM:
        conn.calm.suspect("empty DATA")
    if flags & END_STREAM:
        end_content(stream)
    if content.waiter is not None:
        content.wake()


def _on_headers(conn: Server2Conn, flags: int, sid: int, payload: bytes) -> None:
    block = split_headers(sid, flags, payload)
    if flags & END_HEADERS:
        take_block(conn, sid, flags, block)
    else:
        begin_block(conn, sid, flags, block)


def _on_continuation(conn: Server2Conn, flags: int, sid: int, payload: bytes) -> None:
    begun = conn.block
    if begun is None:
        raise ConnectionFault(PROTOCOL_ERROR, "CONTINUATION without HEADERS")
    begun.pieces.append(payload)
    begun.size += len(payload)
    server = conn.server
    # CVE-2024-27316: without a bound, fields of a request that never ends pile up.
    if begun.size > 2 * server.max_head_size or len(begun.pieces) > MAX_FRAGMENTS + begun.size // 1024:
        raise ConnectionFault(ENHANCE_YOUR_CALM, "a flood of CONTINUATION frames")
    if flags & END_HEADERS:
        conn.block = None
        take_block(conn, sid, begun.flags, b"".join(begun.pieces))


def _on_priority(conn: Server2Conn, flags: int, sid: int, payload: bytes) -> None:
    conn.calm.suspect("PRIORITY")
    check_dependency(sid, payload)


def _on_reset(conn: Server2Conn, flags: int, sid: int, payload: bytes) -> None:
    stream = _find(conn, sid, "RST_STREAM")
    if stream is None:
        conn.leftovers.left.pop(sid, None)
        conn.calm.suspect("RST_STREAM of closed streams")
        return
    if stream.gone < 0:
        conn.client_reset(stream, word_of(payload))
        conn.calm.count_reset()


def _on_settings(conn: Server2Conn, flags: int, sid: int, payload: bytes) -> None:
    if flags & ACK:
        if payload:
            raise ConnectionFault(FRAME_SIZE_ERROR, "an acknowledgment of SETTINGS with content")
        conn.acknowledged()
        return
    conn.calm.suspect("SETTINGS")
    for key, value in parse_settings(payload):
        if key == INITIAL_WINDOW_SIZE:
            _change_windows(conn, value)
        elif key == MAX_FRAME_SIZE:
            conn.writer.frame_size = min(value, MOST_FRAME)
    conn.writer.push(SETTINGS_ACK)


def _change_windows(conn: Server2Conn, value: int) -> None:
    """All streams get more or less to send, which may make windows negative (RFC 9113 §6.9.2)."""
    change = value - conn.peer_window
    conn.peer_window = value
    for stream in conn.streams.values():
        stream.window += change
        if stream.window > MAX_WINDOW:
            raise ConnectionFault(FLOW_CONTROL_ERROR, "a window becomes too large by SETTINGS")
        if stream.source is not None:
            conn.writer.offer(stream)


def _on_push_promise(conn: Server2Conn, flags: int, sid: int, payload: bytes) -> None:
    raise ConnectionFault(PROTOCOL_ERROR, "PUSH_PROMISE from a client")


def _on_ping(conn: Server2Conn, flags: int, sid: int, payload: bytes) -> None:
    conn.calm.suspect("PING")
    if flags & ACK:
        conn.answered(payload)
    else:
        conn.writer.push(frame(PING, ACK, 0, payload))


def _on_goaway(conn: Server2Conn, flags: int, sid: int, payload: bytes) -> None:
    code = word_of(payload[4:8])
    text = payload[8:].decode("utf-8", "replace")[:100]
    if code != NO_ERROR:
        conn.server.stage.log.info("h2", f"{conn.peer.host} goes away: code {code:#x} {text!r}")
    conn.calm.suspect("GOAWAY")


def _on_window_update(conn: Server2Conn, flags: int, sid: int, payload: bytes) -> None:
    increment = word_of(payload) & LAST_ID
    writer = conn.writer
    conn.calm.suspect("WINDOW_UPDATE")
    if not sid:
        if not increment:
            raise ConnectionFault(PROTOCOL_ERROR, "WINDOW_UPDATE of 0")
        writer.window += increment
        if writer.window > MAX_WINDOW:
            raise ConnectionFault(FLOW_CONTROL_ERROR, "the window of the connection becomes too large")
        writer.resume()
        return
    stream = _find(conn, sid, "WINDOW_UPDATE")
    if stream is None or stream.gone >= 0:
        return
    if not increment:
        raise StreamFault(sid, PROTOCOL_ERROR, "WINDOW_UPDATE of 0")
    stream.window += increment
    if stream.window > MAX_WINDOW:
        raise StreamFault(sid, FLOW_CONTROL_ERROR, "the window of the stream becomes too large")
    if stream.source is not None:
        writer.offer(stream)


def _on_priority_update(conn: Server2Conn, flags: int, sid: int, payload: bytes) -> None:
    """RFC 9218 §7.1: a new priority of a stream, which may be still to come."""
    conn.calm.suspect("PRIORITY_UPDATE")
    target = word_of(payload) & LAST_ID
    if not target & 1:
        raise ConnectionFault(PROTOCOL_ERROR, f"PRIORITY_UPDATE of stream {target}")
    urgency, incremental = parse_priority(payload[4:])
    stream = conn.streams.get(target)
    if stream is not None:
        conn.writer.schedule.change(stream, urgency, incremental)
    elif target > conn.last_id and len(conn.priorities) < MAX_PRIORITIES:
        conn.priorities[target] = urgency, incremental


HANDLERS: dict[int, Callable[[Server2Conn, int, int, bytes], None]] = {
    DATA: _on_data,
    HEADERS: _on_headers,
    PRIORITY: _on_priority,
    RST_STREAM: _on_reset,
    SETTINGS: _on_settings,
    PUSH_PROMISE: _on_push_promise,
    PING: _on_ping,
    GOAWAY: _on_goaway,
    WINDOW_UPDATE: _on_window_update,
    CONTINUATION: _on_continuation,
    PRIORITY_UPDATE: _on_priority_update,
}
