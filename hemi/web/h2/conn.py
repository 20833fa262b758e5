"""A server's HTTP/2 connection: one greenlet reads and takes the frames apart, streams run in greenlets of a pool.

The streams of the frames that came together run one after another in one greenlet as long as none of them waits; a
second greenlet stands by and goes on with the rest when one does. So streams that have their answer at hand cost no
switch, and none holds up another. What they send is gathered by `hemi.web.h2.writer`.

Laws of this module:
- `streams` has the exchanges that run, also those that the client has reset meanwhile: whoever resets and asks again
  does not get more work done at a time (CVE-2023-44487).
- Errors are raised deep, as ConnectionFault or StreamFault, and become GOAWAY or RST_STREAM at one place each.
- `deadline` is the next time at which something may be late here; the gate's sweeper calls `cut` then.
- A connection that is told to leave says so twice (RFC 9113 §6.8): the first GOAWAY refuses nothing, so that no request
  that is on its way is lost; the second one follows when the client has answered a PING.
"""

from __future__ import annotations

import math
from collections import deque
from socket import SHUT_RDWR
from time import monotonic
from typing import TYPE_CHECKING, Any

import gevent
from greenlet import GreenletExit

from hemi.sockets import Peer
from hemi.web import exchange
from hemi.web.h2 import workers
from hemi.web.h2.attention import Attention
from hemi.web.h2.calm import Calm
from hemi.web.h2.content import Content2
from hemi.web.h2.encoding import BlockDecoder
from hemi.web.h2.errors import (
    CANCEL,
    ENHANCE_YOUR_CALM,
    FRAME_SIZE_ERROR,
    NO_ERROR,
    PROTOCOL_ERROR,
    REFUSED_STREAM,
    ConnectionFault,
    StreamFault,
)
from hemi.web.h2.frames import (
    END_HEADERS,
    HEADER,
    HEADER_SIZE,
    HEADERS,
    LAST_ID,
    PADDED,
    PING,
    PREFACE,
    WITH_PRIORITY,
    frame,
    goaway_frame,
    reset_frame,
    window_frame,
)
from hemi.web.h2.head import Head
from hemi.web.h2.inflow import Inflow
from hemi.web.h2.leftovers import Leftovers
from hemi.web.h2.opening import LEFT, NOTICED, STAYING, Block, take_block
from hemi.web.h2.patience import look
from hemi.web.h2.receiving import receive
from hemi.web.h2.settings import DEFAULT_WINDOW
from hemi.web.h2.stream import Server2Stream
from hemi.web.h2.writer import FULL, Writer

if TYPE_CHECKING:
    from hemi.sockets import Channel
    from hemi.web.gate import Gate
    from hemi.web.server import HTTPXServer

LINGER = 2.0
"""Seconds that a closing connection goes on reading, so that the client can take the last frames."""

FAREWELL = 1.0
"""Seconds that a client has to answer the PING behind the first GOAWAY."""

KNOWN_RESETS = 1024
"""How many streams that we have reset are remembered: what the client had sent on them before it knew is no error."""

MAX_LIST_FACTOR = 4
"""How many times `max_head_size` a head may decode to, counted as RFC 9113 §10.5.1 does, and still get a 431."""

_PLAIN_HEADERS = END_HEADERS | PADDED | WITH_PRIORITY
_LEAVING = b"leaving!"


class Server2Conn:
    """One connection. `served` counts its requests; `until` is when it should end (monotonic seconds)."""

    __slots__ = (
        "_buffer",
        "_run_task",
        "_scheduled",
        "ack_by",
        "attention",
        "block",
        "calm",
        "channel",
        "deadline",
        "decoder",
        "farewell",
        "gate",
        "gone",
        "greenlet",
        "idle",
        "idle_since",
        "inflow",
        "last_id",
        "leftovers",
        "lost",
        "max_frame_size",
        "memo",
        "most_streams",
        "notice_by",
        "partial_since",
        "peer",
        "peer_window",
        "priorities",
        "ready",
        "resets",
        "scheme",
        "served",
        "server",
        "skipped",
        "stalled_at",
        "stalled_since",
        "streams",
        "table_size",
        "tls",
        "told_id",
        "trusted",
        "until",
        "verdict",
        "writer",
    )

    version = 20

    def __init__(self, gate: Gate, channel: Channel, peer: Peer) -> None:
        now = monotonic()
        self.gate: Gate = gate
        self.server: HTTPXServer = gate.server
        server = self.server
        self.channel = channel
        self.peer = peer
        self.tls = channel.tls
        self.scheme: str = server.forced_scheme or ("https" if channel.tls is not None else "http")
        self.trusted = False
        """The peer is a proxy whose word about its clients counts."""
        self.greenlet: Any = None
        self.idle = False
        """No exchange runs, and none is arriving."""
        self.idle_since = now
        self.served = 0
        self.until = now + server.keepalive_age
        self.deadline = now + server.head_timeout
        self.streams: dict[int, Server2Stream] = {}
        self.ready: deque[Server2Stream] = deque()
        self.gone = 0
        """How many of the streams have been reset already."""
        self.last_id = 0
        self.told_id = LAST_ID
        """The last one that the final GOAWAY has promised to serve; it must never grow (RFC 9113 §6.8)."""
        self.skipped: set[int] = set()
        """Identifiers below the last one that were never used (bounded)."""
        self.resets: dict[int, None] = {}
        self.leftovers = Leftovers(self)
        self.priorities: dict[int, tuple[int, bool]] = {}
        """What PRIORITY_UPDATE said of streams that are still to come."""
        self.lost = False
        """Nothing more can be said on this connection."""
        self.farewell = STAYING
        self.peer_window = DEFAULT_WINDOW
        """The window that streams start with for what we send."""
        self.most_streams = server.h2_max_streams
        self.inflow = Inflow(server.h2_conn_window, max(server.h2_conn_window, 2 * server.h2_max_window))
        self.table_size = server.h2_table_size
        self.max_frame_size = server.h2_max_frame_size
        self.decoder = BlockDecoder(server.h2_table_size, MAX_LIST_FACTOR * server.max_head_size)
        self.attention = Attention()
        self.writer = Writer(channel, self._lose, self._flushed)
        self.calm = Calm(self.writer, server.h2_max_resets, now)
        self.verdict: ConnectionFault | None = None
        """The error that ends the connection, once somebody has found one."""
        self.block: Block | None = None
        """The field block that is arriving."""
        self.ack_by = math.inf
        """Until when our SETTINGS must be acknowledged."""
        self.notice_by = math.inf
        """Until when the client must have seen the first GOAWAY."""
        self.partial_since = 0.0
        """Since when a frame or field block is arriving."""
        self.stalled_since, self.stalled_at = 0.0, 0
        """Since when the connection's window is shut, and what had been sent by then."""
        self.memo: tuple[int, dict[bytes, Head]] = (0, {})
        self._buffer = b""
        self._scheduled = False
        self._run_task = self._run_streams

    def __repr__(self) -> str:
        state = "lost" if self.lost else "idle" if self.idle else "busy"
        return f"<Server2Conn {self.peer.host}:{self.peer.port} {state} {len(self.streams)} served={self.served}>"

    # The reader

    def serve(self, received: bytes = b"") -> None:
        """Serves requests until one side ends the connection; `received` is what has come of it already."""
        try:
            self._greet()
            self._read(received)
        except ConnectionFault as fault:
            self._fail(fault)
        except OSError as error:
            self._lose(error)
        except GreenletExit:
            self._kill()
            raise
        finally:
            self._end()

    def _greet(self) -> None:
        server = self.server
        frames = server.h2_settings
        if server.h2_conn_window > DEFAULT_WINDOW:
            frames += window_frame(0, server.h2_conn_window - DEFAULT_WINDOW)
        else:
            self.inflow.left = DEFAULT_WINDOW
        self.writer.push(frames)
        self.ack_by = monotonic() + server.h2_settings_timeout
        self.watch(self.ack_by)

    def _read(self, data: bytes) -> None:
        receive = self.attention.receive
        channel = self.channel
        while len(data) < len(PREFACE) and data == PREFACE[: len(data)] and (more := receive(channel)):
            data += more
        if self.verdict is not None:
            raise self.verdict
        if not data.startswith(PREFACE):
            raise ConnectionFault(PROTOCOL_ERROR, "no connection preface")
        data = data[len(PREFACE) :]
        self.idle = True
        while True:
            if data:
                self.feed(data)
                if self.ready and not self._scheduled:
                    self._scheduled = True
                    workers.run(self._run_task)
                while self.writer.size > FULL and not self.lost:
                    self.attention.wait()  # who does not take our answers gets no more of them
            if self.is_done():
                return
            if self.verdict is None:
                data = receive(channel)
            if self.verdict is not None:
                raise self.verdict

    def feed(self, data: bytes) -> None:
        """Takes what has arrived. Raises ConnectionFault."""
        if self._buffer:
            data = self._buffer + data
        at, end = 0, len(data)
        unpack = HEADER.unpack_from
        most = self.max_frame_size
        while end - at >= HEADER_SIZE:
            word, flags, sid = unpack(data, at)
            start = at + HEADER_SIZE
            at = start + (word >> 8)
            if at > end:
                if word >> 8 > most:
                    raise ConnectionFault(FRAME_SIZE_ERROR, f"a frame of {word >> 8} bytes")
                at = start - HEADER_SIZE
                break
            kind = word & 0xFF
            sid &= LAST_ID
            try:
                if word >> 8 > most:
                    raise ConnectionFault(FRAME_SIZE_ERROR, f"a frame of {word >> 8} bytes")
                if kind == HEADERS and flags & _PLAIN_HEADERS == END_HEADERS and sid and self.block is None:
                    take_block(self, sid, flags, data[start:at])
                else:
                    receive(self, kind, flags, sid, data[start:at])
            except StreamFault as fault:
                self._refuse_stream(fault)
        self._buffer = data[at:] if at < end else b""
        if self._buffer or self.block is not None:
            if not self.partial_since:
                self.partial_since = monotonic()
                self.watch(self.partial_since + self.server.head_timeout)
            self.idle = False
        else:
            self.partial_since = 0.0
            if not self.streams and not self.idle:
                self._become_idle()

    def forget(self) -> None:
        """Forgets what heads come to: another server has other sites."""
        self.memo = (self.decoder.table.generation, {})

    # Exchanges

    def _run_streams(self) -> None:
        """Runs what is ready: what a greenlet of the pool does."""
        self._scheduled = False
        ready = self.ready
        me = gevent.getcurrent()
        while ready:
            stream = ready.popleft()
            if ready and not self._scheduled:
                self._scheduled = True
                workers.run(self._run_task)  # takes over if this one waits
            if stream.gone >= 0:
                stream.conclude()
                continue
            server = stream.server
            server.requests += 1
            stream.greenlet = me
            try:
                exchange.run(stream, server)
            finally:
                stream.conclude()

    def close_stream(self, stream: Server2Stream) -> None:
        """Takes a stream out of the table, behind its exchange."""
        if self.streams.pop(stream.sid, None) is None:
            return
        if stream.gone >= 0:
            self.gone -= 1
        elif self.calm.resets.left < self.calm.resets.most:
            self.calm.resets.left += 1
        if not self.streams:
            if self.attention.waits:
                self.attention.call()
            elif self.block is None and not self._buffer:
                self._become_idle()

    def _become_idle(self) -> None:
        if self.lost:
            return
        self.idle = True
        if self.farewell == LEFT:
            if self.is_done():
                self.attention.call()
            return
        self.idle_since = now = monotonic()
        self.watch(now + self.server.keepalive_timeout)
        if self.gate.successor is not None and self.farewell == STAYING:
            self.gate.hand_over(self)

    def reset(self, stream: Server2Stream, code: int) -> None:
        """Ends a stream from our side."""
        if stream.gone < 0:
            self.remember_reset(stream.sid)
            self.gone += 1
            stream.cut_off(code)
            if not self.lost:
                self.writer.push(reset_frame(stream.sid, code))

    def client_reset(self, stream: Server2Stream, code: int) -> None:
        """Ends a stream that the client has reset."""
        if stream.gone < 0:
            self.gone += 1
            stream.cut_off(code)

    def remember_reset(self, sid: int) -> None:
        resets = self.resets
        if len(resets) >= KNOWN_RESETS:
            del resets[next(iter(resets))]
        resets[sid] = None

    def _refuse_stream(self, fault: StreamFault) -> None:
        """Answers an error of the client on a stream, as long as there are not too many of them (CVE-2025-8671)."""
        self.server.stage.log.debug("h2", f"{self.peer.host}: {fault}")
        stream = self.streams.get(fault.sid)
        if fault.sid > self.last_id:
            raise ConnectionFault(fault.code, str(fault))  # there is nothing yet that could be reset
        if stream is None:
            self.remember_reset(fault.sid)
            self.writer.push(reset_frame(fault.sid, fault.code))
        else:
            self.reset(stream, fault.code)
        if fault.code != REFUSED_STREAM or self.ack_by == math.inf:  # before, it may not know the limit yet
            self.calm.count_reset()

    # Windows of what comes in

    def took(self, size: int, now: float = 0.0) -> None:
        """Opens the connection's window for what was read, or dropped (without `now`)."""
        if not now:
            self.inflow.starved = False
        grown = self.inflow.take(size, now or self.inflow.since)
        if grown:
            self.send_window(0, grown)

    def send_window(self, sid: int, increment: int) -> None:
        """Tells the client that it may send more."""
        if not self.lost:
            self.writer.push(window_frame(sid, increment))

    def drop(self, content: Content2) -> None:
        """Lets go of what was not read of a content."""
        size = sum(map(len, content.chunks))
        content.chunks.clear()
        if size:
            self.took(size)

    # Deadlines

    def watch(self, deadline: float) -> None:
        """Has `cut` called at this time or before."""
        if deadline < self.deadline:
            self.deadline = deadline

    def cut(self, now: float) -> None:
        """Ends what is late, and finds out when to look next; the sweeper's call."""
        self.deadline = math.inf
        self.watch(look(self, now))

    # Ending

    def drain(self) -> None:
        """Begins a graceful end: the first GOAWAY, and a PING that finds out when the client has seen it."""
        if self.farewell == STAYING and not self.lost:
            self.farewell = NOTICED
            self.notice_by = monotonic() + FAREWELL
            self.watch(self.notice_by)
            self.writer.push(goaway_frame(LAST_ID, NO_ERROR) + frame(PING, 0, 0, _LEAVING))

    def answered(self, payload: bytes) -> None:
        """Takes the answer to a PING."""
        if payload == _LEAVING and self.farewell == NOTICED:
            self.say_goodbye()

    def acknowledged(self) -> None:
        """Takes the acknowledgment of our SETTINGS."""
        self.ack_by = math.inf
        self.decoder.limit(self.table_size)

    def say_goodbye(self) -> None:
        """The second GOAWAY: what comes from now on is not served."""
        if self.farewell != LEFT and not self.lost:
            self.farewell = LEFT
            self.notice_by = math.inf
            self.told_id = self.last_id
            self.writer.push(goaway_frame(self.told_id, NO_ERROR))

    def condemn(self, fault: ConnectionFault) -> None:
        """Ends the connection because of an error, from whatever greenlet."""
        if self.verdict is None:
            self.verdict = fault
            self.attention.call()

    def _fail(self, fault: ConnectionFault) -> None:
        """The one place where errors of the connection become GOAWAY."""
        log = self.server.stage.log
        who = f"{self.peer.host}:{self.peer.port}"
        if fault.code == ENHANCE_YOUR_CALM:
            log.warning("h2", f"the connection from {who} is ended: {fault.text}")
        else:
            log.info("h2", f"the connection from {who} is ended: {fault}")
        self.farewell = LEFT
        self.writer.push(goaway_frame(min(self.told_id, self.last_id), fault.code, fault.text))

    def _lose(self, error: OSError) -> None:
        """Notes that the client has gone, and wakes all that wait for it."""
        if not self.lost:
            self.lost = True
            self.idle = False
            for stream in list(self.streams.values()):
                self.client_reset(stream, CANCEL)
            self.attention.call()

    def _flushed(self) -> None:
        """The writer has sent what may be sent."""
        if self.attention.waits or self.is_done():
            self.attention.call()

    def is_done(self) -> bool:
        """Whether nothing is left to do on a connection that was told to leave."""
        return self.lost or (self.farewell == LEFT and not self.streams and not self.writer.busy)

    def _end(self) -> None:
        """Waits for what still runs, so that nothing of this connection outlives it; then lets the client take the last
        frames. What waits longer than it may is ended by the sweeper or the gate."""
        try:
            for stream in list(self.streams.values()):
                self.client_reset(stream, CANCEL)
            if self.ready and not self._scheduled:
                self._run_streams()  # they have been reset: none of them begins
            if self.lost and self.writer.busy:
                self.channel.sock.shutdown(SHUT_RDWR)  # wakes the writer
            while self.streams or self.writer.busy:
                self.attention.wait()
            if not self.lost:
                self.channel.linger(LINGER)
        except OSError:
            pass
        except GreenletExit:
            self._kill()
            raise
        finally:
            self.lost = True
            self.idle = False

    def _kill(self) -> None:
        self.lost = True
        left = [stream.greenlet for stream in self.streams.values() if stream.greenlet is not None]
        gevent.killall(left, block=True, timeout=1.0)

    def close(self) -> None:
        """Closes the connection. Idempotent."""
        self.channel.close()
