"""Field blocks of a connection: remembered, decoded, and made requests or trailers (RFC 9113 §4.3, §5.1.1, §8.1)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hemi.web.h1.framing import Refusal
from hemi.web.h2.content import Content2
from hemi.web.h2.errors import (
    PROTOCOL_ERROR,
    REFUSED_STREAM,
    STREAM_CLOSED,
    ConnectionFault,
    Malformed,
    StreamFault,
)
from hemi.web.h2.frames import END_STREAM
from hemi.web.h2.head import Head, check_trailers, examine
from hemi.web.h2.stream import Server2Stream
from hemi.web.request import Request

if TYPE_CHECKING:
    from hemi.web.h2.conn import Server2Conn

KNOWN_BLOCKS = 128
KNOWN_SIZE = 1024
"""How many field blocks a connection remembers, and how large ones in bytes."""

MAX_SKIPPED = 1024
"""How many identifiers that were never used are remembered."""

REQUEST_PAYS = 10
"""How many frames that bring nothing a request pays for."""

STAYING, NOTICED, LEFT = 0, 1, 2
"""How far the farewell of a connection has come: it has said its first GOAWAY, and its last one."""


class Block:
    """A field block that is arriving in several frames."""

    __slots__ = ("flags", "pieces", "sid", "size")

    def __init__(self, sid: int, flags: int, fragment: bytes) -> None:
        self.sid = sid
        self.flags = flags
        self.pieces = [fragment]
        self.size = len(fragment)


def begin_block(conn: Server2Conn, sid: int, flags: int, fragment: bytes) -> None:
    """Takes the first fragment of a field block that CONTINUATION goes on with."""
    conn.block = Block(sid, flags, fragment)


def take_block(conn: Server2Conn, sid: int, flags: int, block: bytes) -> None:
    """Takes a whole field block: of a new request, or of trailers."""
    if sid <= conn.last_id or not sid & 1:
        _take_trailers(conn, sid, flags, block)
        return
    generation, memo = conn.memo
    head = memo.get(block)
    if head is None or generation != conn.decoder.table.generation:
        head = _learn(conn, sid, block)
    if conn.farewell == LEFT:
        note_id(conn, sid)
        conn.remember_reset(sid)
        return
    _open(conn, sid, head, bool(flags & END_STREAM))


def _learn(conn: Server2Conn, sid: int, block: bytes) -> Head:
    """Decodes and examines a block, and remembers it for as long as it means the same."""
    table = conn.decoder.table
    before = table.generation
    pairs = conn.decoder.decode(block)
    note_id(conn, sid)
    try:
        head = examine(pairs, conn.server)
    except Malformed as error:
        raise StreamFault(sid, PROTOCOL_ERROR, str(error)) from None
    if table.generation != before:
        conn.memo = (table.generation, {})
    elif head.refusal is None and len(block) <= KNOWN_SIZE:
        generation, memo = conn.memo
        if generation != before or len(memo) >= KNOWN_BLOCKS:
            conn.memo = (before, memo := {})
        memo[block] = head
    return head


def note_id(conn: Server2Conn, sid: int) -> None:
    """Notes that an identifier is used; those that it skips are closed (RFC 9113 §5.1.1)."""
    last = conn.last_id
    if sid > last:
        if sid > last + 2 and len(conn.skipped) < MAX_SKIPPED:
            conn.skipped.update(range(last + 2 if last else 1, min(sid, last + 2 * MAX_SKIPPED), 2))
        conn.last_id = sid


def _open(conn: Server2Conn, sid: int, head: Head, ended: bool) -> None:
    """Begins an exchange."""
    server = conn.server
    note_id(conn, sid)
    streams = conn.streams
    if len(streams) - conn.gone >= conn.most_streams or len(streams) >= 2 * conn.most_streams:
        raise StreamFault(sid, REFUSED_STREAM, "too many streams")
    known = head.known
    stream = Server2Stream(conn, sid, head)
    request = Request(stream, conn, 20, head.method, head.target, known.fields, known.table)
    request.raw_path = head.raw_path
    request.path = head.path
    request.query_string = head.query
    request.webapp, request.authority, request.hostname, request.port = known.site
    stream.request = request
    if not ended or head.protocol:
        content = Content2(stream, known.size, known.expects, server.h2_window, server.h2_max_window)
        stream.content = content
        content.complete = ended
        if not head.protocol:
            request.content_size = known.size
    elif known.size > 0:
        raise StreamFault(sid, PROTOCOL_ERROR, "a content-length without a content")
    if conn.trusted:
        server.believe_proxy(request)
    if conn.tls is not None and stream.refusal is None:
        try:
            server.check_site(request, conn.tls)
        except Refusal as refusal:
            stream.refusal = refusal
    if conn.priorities:
        stream.urgency, stream.incremental = conn.priorities.pop(sid, (stream.urgency, stream.incremental))
    if conn.calm.frames.left < conn.calm.frames.most:
        conn.calm.frames.left += REQUEST_PAYS
    streams[sid] = stream
    conn.ready.append(stream)
    conn.idle = False
    conn.served += 1
    if conn.served >= server.keepalive_requests or request.started > conn.until:
        conn.drain()


def _take_trailers(conn: Server2Conn, sid: int, flags: int, block: bytes) -> None:
    """Takes a field block that opens no stream: the trailers of a request, or an error. It is decoded in any case,
    as it may change the table (RFC 9113 §4.3)."""
    pairs = conn.decoder.decode(block)
    if not sid & 1 or sid in conn.skipped:
        raise ConnectionFault(PROTOCOL_ERROR, f"HEADERS on stream {sid}, which cannot be opened")
    stream = conn.streams.get(sid)
    if stream is None or stream.gone >= 0:
        if sid in conn.leftovers.left:
            conn.leftovers.drop(sid, 0, ended=True)
        elif stream is None and sid not in conn.resets:
            raise ConnectionFault(STREAM_CLOSED, f"HEADERS on stream {sid}, which is closed")
        return
    content = stream.content
    if content is None or content.complete:
        raise StreamFault(sid, STREAM_CLOSED, "HEADERS behind the end of the stream")
    if not flags & END_STREAM:
        raise StreamFault(sid, PROTOCOL_ERROR, "trailers that do not end the stream")
    try:
        stream.request.trailer_fields = check_trailers(pairs, conn.server)
    except Malformed as error:
        raise StreamFault(sid, PROTOCOL_ERROR, str(error)) from None
    end_content(stream)


def end_content(stream: Server2Stream) -> None:
    """Notes the end of a request."""
    content = stream.content
    if content is not None:
        if content.size not in (-1, content.arrived):
            raise StreamFault(stream.sid, PROTOCOL_ERROR, "less content than the content-length says")
        content.complete = True
        content.wake()
