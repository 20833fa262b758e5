"""Relays: bytes both ways between two channels, whatever they mean.

Laws of this module:
- The end of one direction is passed on as an end, and the other direction goes on (half-close). A connection that
  breaks on one side is reset on the other: nobody must take what was cut for whole.
- What is idle is decided by looking at counters now and then, not by a deadline for each read: what carries the bytes
  knows nothing of time. Who takes nothing of what is sent is cut by its channel, after `write_timeout`.
- Small messages between plain sockets are passed on by the hub itself, when the watcher calls, without waking a
  greenlet. What might wait (bulk, a peer that takes nothing now) gets a greenlet for as long as that lasts.
- Bulk between plain sockets goes through a pipe by splice(2), without coming to this process. A pipe costs two
  descriptors and is there only while there is bulk.
- A direction of TLS, and one that has to keep a pace or passes through a filter, has a greenlet all the time.
"""

from __future__ import annotations

import fcntl
import math
import os
import socket
from collections.abc import Callable
from contextlib import suppress
from time import monotonic
from typing import Any

import gevent
from gevent import get_hub

from hemi.net.pace import Pace
from hemi.sockets import Channel, DeadlinePassed, close_now

__all__ = ["DOWN", "UP", "Ended", "Filter", "Relay"]

Filter = Callable[[bytes], bytes]
"""Looks at all that passes in one direction: gets each piece as it comes, cut anywhere, and b"" at the end; returns
what is passed on instead, which may be nothing, or the piece itself. It may wait, and may raise `Ended`."""

PIECE = 65536
"""Bytes that are read at once; as many at once are a sign of bulk."""

RECORD = 16384
"""Bytes that TLS gives at once when there is bulk."""

PIPE_SIZE = 1 << 20
"""Bytes that a pipe should hold; what the kernel allows without privileges."""

FAIR_BYTES = 4 << 20
"""After so many bytes without waiting, the other greenlets get their turn."""

LOOKS = 4
"""How often to look whether a relay is idle, within its idle_timeout: it ends at most a quarter late."""

UP, DOWN = 0, 1  # from the client to the node, and back

_FLAGS = 0x01 | 0x02
"""SPLICE_F_MOVE and SPLICE_F_NONBLOCK of <fcntl.h>: Python has no names for them before 3.12."""

_buffer = memoryview(bytearray(PIECE))
"""What the hub reads into: it passes on one message at a time."""


class Ended(Exception):
    """Raised by a filter: the relay is over, and nothing more of this direction is passed on. The client still gets the
    `farewell`; log lines say the `reason`."""

    def __init__(self, reason: str, farewell: bytes = b"") -> None:
        super().__init__(reason)
        self.farewell = farewell


class _SendFailed(Exception):
    """Not the source of a direction has failed, but its target."""

    def __init__(self, error: OSError) -> None:
        super().__init__(error)
        self.error = error


class Relay:
    """Relays between a client and a node until both have ended.

    `idle_timeout` is for how many seconds nothing may move either way, `ends_at` (monotonic seconds) when the relay
    ends whatever happens. `paces` are what the directions UP and DOWN have to keep, `filters` what they pass through.
    `deadline` and `cut` are for a `Sweeper`.
    """

    __slots__ = (
        "_bug",
        "_ended",
        "_farewell",
        "_filters",
        "_helpers",
        "_main",
        "_paces",
        "_seen",
        "_seen_at",
        "_waiting",
        "broken",
        "client",
        "deadline",
        "ends_at",
        "idle_timeout",
        "moved",
        "node",
        "reason",
        "zero_copy",
    )

    def __init__(
        self,
        client: Channel,
        node: Channel,
        idle_timeout: float = math.inf,
        ends_at: float = math.inf,
        paces: tuple[tuple[Pace, ...], tuple[Pace, ...]] = ((), ()),
        filters: tuple[Filter | None, Filter | None] = (None, None),
    ) -> None:
        self.client = client
        self.node = node
        self.idle_timeout = idle_timeout
        self.ends_at = ends_at
        self.moved = [0, 0]
        """Bytes from the client, and to it."""
        self.reason = ""
        """Why it ended before both sides had: "idle", "lifetime", "stopped", "client: …", "node: …"."""
        self.broken = False
        """Both sides are reset at the end."""
        self.zero_copy = client.tls is None and node.tls is None and hasattr(os, "splice")
        self._paces = paces
        self._filters = filters
        self._farewell = b""
        self._ended = 0  # how many directions have
        self._bug: Exception | None = None
        self._main: Any = None  # the greenlet of `run`, while it waits
        self._helpers: set[Any] = set()  # the greenlets of directions
        self._waiting = 0  # how many of them wait for their turn at a pace
        self._seen = (0, 0)
        self._seen_at = now = monotonic()
        self.deadline = min(now + idle_timeout / LOOKS, ends_at)

    def __repr__(self) -> str:
        return f"<Relay moved={self.moved} reason={self.reason!r}>"

    def run(self, first: bytes = b"") -> None:
        """Relays `first` to the node, and then all that comes. Both channels are closed at the end."""
        self._main = gevent.getcurrent()
        hub = get_hub()
        try:
            self._begin(UP, first)
            self._begin(DOWN, b"")
            while self._ended < 2 and not self.broken:
                hub.switch()
        except gevent.GreenletExit:
            self.broken, self.reason = True, "stopped"
            raise
        finally:
            self._main = None
            self._leave()
        if self._bug is not None:
            raise self._bug

    def _begin(self, way: int, first: bytes) -> None:
        plain = self.client.tls is None and self.node.tls is None
        if not plain or self._paces[way] or self._filters[way] is not None:
            self._help(self._carry, way, first)
        elif first:
            self._help(self._unblock, way, first)
        else:
            self._watch(way)

    def _leave(self) -> None:
        if self._helpers:
            self.client.stop_reading()
            self.node.stop_reading()
            gevent.killall(list(self._helpers))
        if self._farewell:
            with suppress(OSError):
                self.client.send(self._farewell)
        for channel in (self.client, self.node):
            if self.broken:
                channel.reset()
            else:
                channel.close()

    def _ends(self, way: int) -> tuple[Channel, Channel]:
        """The source and the target of a direction."""
        return (self.client, self.node) if way == UP else (self.node, self.client)

    # What the hub does by itself

    def _watch(self, way: int) -> None:
        """Has the hub pass on what comes."""
        source, target = self._ends(way)
        source.on_readable(_Lane(self, way, source, target).readable)

    def _take_over(self, way: int, rest: bytes) -> None:
        """Ends that, as it would have to wait: for the `rest` of what was read, or because there is bulk."""
        self._ends(way)[0].stop_reading()
        self._help(self._unblock, way, rest)

    # Greenlets

    def _help(self, work: Callable[[int, bytes], None], way: int, data: bytes) -> None:
        greenlet = gevent.Greenlet(self._do, work, way, data)
        self._helpers.add(greenlet)
        greenlet.start()

    def _do(self, work: Callable[[int, bytes], None], way: int, data: bytes) -> None:
        source, target = self._ends(way)
        try:
            work(way, data)
        except _SendFailed as failed:
            self.fail(target, failed.error)
        except OSError as error:
            self.fail(source, error)
        except Ended as end:
            self.reason, self._farewell, self._ended = str(end), end.farewell, 2
            self._wake()
        except Exception as error:  # it must not leave the other direction waiting for ever
            self._bug, self.broken = error, True
            self._wake()
        finally:
            self._helpers.discard(gevent.getcurrent())

    def _unblock(self, way: int, data: bytes) -> None:
        """Sends what the hub could not, and carries on as long as there is bulk."""
        source, target = self._ends(way)
        if data:
            self._send(target, way, data)
            if len(data) < PIECE:
                self._watch(way)
                return
        ended = self.zero_copy and self._splice(source, target, way)
        if ended:
            self.finish(way)
        elif self.zero_copy:
            self._watch(way)
        else:  # there are no descriptors for a pipe
            self._carry(way, b"")

    def _carry(self, way: int, data: bytes) -> None:
        """Carries until the end."""
        source, target = self._ends(way)
        if data:
            self._send(target, way, data)
        while not self._copy(source, target, way) and not self._splice(source, target, way):
            pass
        filter_ = self._filters[way]
        if filter_ is not None and (data := filter_(b"")):
            self._send_on(target, way, data)
        self.finish(way)

    def _send(self, target: Channel, way: int, data: bytes) -> None:
        filter_ = self._filters[way]
        if filter_ is not None:
            data = filter_(data)
        if data:
            self._send_on(target, way, data)

    def _send_on(self, target: Channel, way: int, data: bytes) -> None:
        if self._paces[way]:
            self._keep_pace(way, len(data))
        try:
            target.send(data)
        except OSError as error:
            raise _SendFailed(error) from None
        self.moved[way] += len(data)

    def _keep_pace(self, way: int, size: int) -> None:
        """Waits until so many bytes may be sent."""
        seconds = max(pace.take(size) for pace in self._paces[way])
        if seconds > 0:
            self._waiting += 1
            try:
                gevent.sleep(seconds)
            finally:
                self._waiting -= 1

    def _piece(self, way: int, most: int) -> int:
        """How many bytes to take at once."""
        return min([most, *(pace.piece for pace in self._paces[way])])

    def _copy(self, source: Channel, target: Channel, way: int) -> bool:
        """Carries until the end (True), or until there is bulk for `_splice`."""
        moved, send, piece = self.moved, self._send, self._piece(way, PIECE)
        fair = moved[way] + FAIR_BYTES
        data = source.recv(piece)
        while data:
            send(target, way, data)
            size = len(data)
            if size == PIECE and self.zero_copy and self._filters[way] is None:
                return False
            if moved[way] >= fair:
                gevent.sleep(0)
                fair = moved[way] + FAIR_BYTES
            # Who sent little has sent all: waiting first saves a system call that fails.
            data = source.recv(piece) if size >= RECORD or size == piece else source.recv_waiting(piece)
        return True

    def _splice(self, source: Channel, target: Channel, way: int) -> bool:
        """Carries until the end (True), or until there is no more bulk."""
        try:
            out, into = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError:
            self.zero_copy = False  # no descriptors left: copying needs none
            return False
        try:
            with suppress(OSError):  # the user has many pipes: a small one does
                fcntl.fcntl(into, fcntl.F_SETPIPE_SZ, PIPE_SIZE)
            while True:
                before = self.moved[way]
                if self._burst(source, target, way, out, into):
                    return True
                if self.moved[way] - before < PIECE:
                    return False
                source.wait_readable()
        finally:
            close_now(out)
            close_now(into)

    def _burst(self, source: Channel, target: Channel, way: int, out: int, into: int) -> bool:
        """Carries what is there now through the pipe, which is empty afterwards; True at the end."""
        moved, splice, paced = self.moved, os.splice, bool(self._paces[way])
        receiving, sending, piece = source.sock.fileno(), target.sock.fileno(), self._piece(way, PIPE_SIZE)
        fair = moved[way] + FAIR_BYTES
        while True:
            try:
                left = splice(receiving, into, piece, flags=_FLAGS)
            except BlockingIOError:
                return False
            if not left:
                return True
            if paced:
                self._keep_pace(way, left)
            try:
                while left:
                    try:
                        sent = splice(out, sending, left, flags=_FLAGS)
                    except BlockingIOError:
                        target.wait_writable()
                        continue
                    left -= sent
                    moved[way] += sent
            except OSError as error:
                raise _SendFailed(error) from None
            if moved[way] >= fair:
                gevent.sleep(0)
                fair = moved[way] + FAIR_BYTES

    # Ending

    def finish(self, way: int) -> None:
        """Passes the end of a direction on."""
        source, target = self._ends(way)
        self._ended += 1
        if self._ended == 2:
            self._wake()  # both will be closed
            return
        source.stop_reading()
        try:
            target.shutdown_write()
        except OSError:
            pass

    def fail(self, side: Channel, error: OSError) -> None:
        """Ends both directions as one side has broken, unless that is what is going on."""
        if self.reason:
            self._ended = 2
        else:
            word = "takes nothing" if isinstance(error, DeadlinePassed) else error.strerror or str(error)
            self.reason = f"{'client' if side is self.client else 'node'}: {word.lower()}"
            self.broken = True
        self._wake()

    def _wake(self) -> None:
        """Wakes `run`. In the hub: who calls may be a greenlet that it will kill."""
        get_hub().loop.run_callback(self._resume)

    def _resume(self) -> None:
        if self._main is not None:
            self._main.switch()

    def cut(self, now: float) -> None:
        """Ends the relay when its time is over, or when nothing has moved for `idle_timeout`."""
        seen = (self.moved[0], self.moved[1])
        # A channel that waits to send looks after itself; neither a slow reader nor who keeps its pace is idle.
        if seen != self._seen or self.client.writing or self.node.writing or self._waiting:
            self._seen, self._seen_at = seen, now
        if now >= self.ends_at:
            self.reason = self.reason or "lifetime"
            self.broken = True  # whatever was on its way is cut
            self.deadline = math.inf
            self._wake()
        elif now - self._seen_at >= self.idle_timeout:
            self._end_idle()
        else:
            self.deadline = min(now + self.idle_timeout / LOOKS, self.ends_at)

    def _end_idle(self) -> None:
        self.reason = self.reason or "idle"
        self.deadline = math.inf
        for channel in (self.client, self.node):
            channel.late = True  # who waits on it gets DeadlinePassed
            with suppress(OSError):
                channel.sock.shutdown(socket.SHUT_RDWR)


class _Lane:
    """One direction, as long as nothing in it has to wait."""

    __slots__ = ("moved", "receive", "relay", "send", "source", "target", "way")

    def __init__(self, relay: Relay, way: int, source: Channel, target: Channel) -> None:
        self.relay = relay
        self.way = way
        self.source = source
        self.target = target
        self.moved = relay.moved
        self.receive = source.sock.recv_into
        self.send = target.sock.send

    def readable(self) -> None:
        """Passes on what has come. The hub's call: it must not wait."""
        try:
            size = self.receive(_buffer)
        except BlockingIOError:
            return
        except OSError as error:
            self.relay.fail(self.source, error)
            return
        if not size:
            self.relay.finish(self.way)
            return
        try:
            sent = self.send(_buffer[:size])
        except BlockingIOError:
            sent = 0
        except OSError as error:
            self.relay.fail(self.target, error)
            return
        self.moved[self.way] += sent
        if sent < size or size == PIECE:
            self.relay._take_over(self.way, bytes(_buffer[sent:size]))
