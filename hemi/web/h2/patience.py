"""What on a connection may be late, and what becomes of it: called by the gate's sweeper through `Server2Conn.cut`.

- a connection that is idle for `keepalive_timeout`, or has not asked for anything within `head_timeout`;
- a frame or field block that does not become whole within `head_timeout` (slowloris);
- SETTINGS and the PING of a farewell that are not acknowledged;
- contents that arrive too slowly: their reader gets a 408;
- windows that stay shut for `write_timeout`, or let less than `min_rate` through: of a stream, or of the connection.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from hemi.web.h2.errors import CANCEL, ENHANCE_YOUR_CALM, SETTINGS_TIMEOUT, ConnectionFault

if TYPE_CHECKING:
    from hemi.web.h2.conn import Server2Conn
    from hemi.web.h2.stream import Server2Stream

AGAIN = 1.0
"""Seconds until a stream is looked at again that waits for others, not for its client."""


def look(conn: Server2Conn, now: float) -> float:
    """Ends what is late; returns when to look again (monotonic seconds)."""
    server = conn.server
    if conn.lost or conn.verdict is not None:
        return math.inf
    if conn.ack_by <= now:
        conn.condemn(ConnectionFault(SETTINGS_TIMEOUT, "our SETTINGS are not acknowledged"))
        return math.inf
    by = conn.ack_by
    if conn.partial_since:
        whole_by = conn.partial_since + server.head_timeout
        if whole_by <= now:
            conn.condemn(ConnectionFault(ENHANCE_YOUR_CALM, "a frame or head takes too long to arrive"))
            return math.inf
        by = min(by, whole_by)
    if conn.notice_by <= now:
        conn.say_goodbye()
    by = min(by, conn.notice_by)
    if conn.idle:
        idle_by = conn.idle_since + (server.keepalive_timeout if conn.last_id else server.head_timeout)
        if idle_by <= now:
            conn.say_goodbye()
        else:
            by = min(by, idle_by)
    return min(by, _look_at_streams(conn, now))


def _look_at_streams(conn: Server2Conn, now: float) -> float:
    by = math.inf
    waiting = False
    for stream in list(conn.streams.values()):
        content = stream.content
        if content is not None and content.waiter is not None:
            if content.deadline <= now:
                content.late = True
                content.deadline = math.inf
                content.wake()
            else:
                by = min(by, content.deadline)
        if stream.source is not None and stream.waiter is not None:
            if stream.queued:  # its own window is open: the connection's is shut, or others go first
                waiting = True
                by = min(by, now + AGAIN)
            else:
                by = min(by, _look_at_window(conn, stream, now))
    if waiting and conn.writer.window <= 0:
        by = min(by, _look_at_stall(conn, now))
    else:
        conn.stalled_since = 0.0
    return by


def _look_at_window(conn: Server2Conn, stream: Server2Stream, now: float) -> float:
    if stream.blocked <= now:
        least = min(conn.channel.least_taken, stream.end - stream.sent)
        if stream.at - stream.sent < max(least, 1):
            conn.server.stage.log.info(
                "h2", f"{conn.peer.host} lets the window of stream {stream.sid} stall: it is reset"
            )
            conn.reset(stream, CANCEL)
            return math.inf
        stream.sent = stream.at
        stream.blocked = now + stream.server.write_timeout
    return stream.blocked


def _look_at_stall(conn: Server2Conn, now: float) -> float:
    """A connection whose window stays shut holds up all its streams."""
    sent = conn.writer.sent
    if not conn.stalled_since or sent - conn.stalled_at >= conn.channel.least_taken:
        conn.stalled_since, conn.stalled_at = now, sent
    elif now - conn.stalled_since >= conn.server.write_timeout:
        conn.condemn(ConnectionFault(ENHANCE_YOUR_CALM, "the window of the connection stalls"))
    return conn.stalled_since + conn.server.write_timeout
