"""Relays: bytes both ways between two channels, whatever they mean.

Laws of this module:
- The end of one direction is passed on as an end, and the other direction goes on (half-close). A connection that
  breaks on one side is reset on the other: nobody must take what was cut for whole.
- What is idle is decided by looking at counters now and then, not by a deadline for each read: the loops that carry
  the bytes know nothing of time. Who takes nothing of what is sent is cut by its channel, after `write_timeout`.
- Bulk between two plain sockets goes through a pipe by splice(2), without coming to this process. A pipe costs two
  descriptors and is there only while there is bulk.
"""

from __future__ import annotations

import fcntl
import math
import os
import socket
from contextlib import suppress
from time import monotonic
from typing import Any

import gevent
from gevent import get_hub

from hemi.sockets import Channel, DeadlinePassed, close_now

__all__ = ["Relay"]

PIECE = 65536
"""Bytes that are read at once; as many at once are a sign of bulk."""

PIPE_SIZE = 1 << 20
"""Bytes that a pipe should hold; what the kernel allows without privileges."""

FAIR_BYTES = 4 << 20
"""After so many bytes without waiting, the other greenlets get their turn."""

LOOKS = 4
"""How often to look whether a relay is idle, within its idle_timeout: it ends at most a quarter late."""

UP, DOWN = 0, 1  # from the client to the node, and back

_FLAGS = 0x01 | 0x02
"""SPLICE_F_MOVE and SPLICE_F_NONBLOCK of <fcntl.h>: Python has no names for them before 3.12."""


class _Halted(BaseException):
    """The other direction has failed."""


class Relay:
    """Relays between a client and a node until both have ended.

    `idle_timeout` is for how many seconds nothing may move either way, `ends_at` (monotonic seconds) when the relay
    ends whatever happens. `deadline` and `cut` are for a `Sweeper`.
    """

    __slots__ = (
        "_broken",
        "_main",
        "_seen",
        "_seen_at",
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
        self, client: Channel, node: Channel, idle_timeout: float = math.inf, ends_at: float = math.inf
    ) -> None:
        self.client = client
        self.node = node
        self.idle_timeout = idle_timeout
        self.ends_at = ends_at
        self.moved = [0, 0]
        """Bytes from the client, and to it."""
        self.reason = ""
        """Why it ended before both sides had: "idle", "lifetime", "stopped", "client: …", "node: …"."""
        self.zero_copy = client.tls is None and node.tls is None and hasattr(os, "splice")
        self._broken = False
        self._main: Any = None  # the greenlet of the direction to the client
        self._seen = (0, 0)
        self._seen_at = now = monotonic()
        self.deadline = min(now + idle_timeout / LOOKS, ends_at)

    def __repr__(self) -> str:
        return f"<Relay moved={self.moved} reason={self.reason!r}>"

    def run(self, first: bytes = b"") -> None:
        """Relays `first` to the node, and then all that comes. Both channels are done with at the end."""
        self._main = gevent.getcurrent()
        upwards = gevent.spawn(self._carry, self.client, self.node, first, UP)
        try:
            self._carry(self.node, self.client, b"", DOWN)
            self._main = None
            if not self._broken:
                upwards.join()
        except _Halted:
            pass
        except gevent.GreenletExit:
            self._broken, self.reason = True, "stopped"
            raise
        finally:
            self._main = None
            upwards.kill()
            if self._broken:
                self.client.reset()
                self.node.reset()

    def _carry(self, source: Channel, target: Channel, data: bytes, way: int) -> None:
        """One direction."""
        try:
            if data:
                target.send(data)
                self.moved[way] += len(data)
            while not self._copy(source, target, way) and not self._splice(source, target, way):
                pass
        except OSError as error:
            self._fail(source, target, error)
            return
        with suppress(OSError):
            target.shutdown_write()

    def _copy(self, source: Channel, target: Channel, way: int) -> bool:
        """Carries until the end (True), or until there is bulk for `_splice`."""
        moved, recv, send = self.moved, source.recv, target.send
        fair = moved[way] + FAIR_BYTES
        while data := recv(PIECE):
            send(data)
            moved[way] += len(data)
            if len(data) == PIECE and self.zero_copy:
                return False
            if moved[way] >= fair:
                gevent.sleep(0)
                fair = moved[way] + FAIR_BYTES
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
        moved, splice = self.moved, os.splice
        receiving, sending = source.sock.fileno(), target.sock.fileno()
        fair = moved[way] + FAIR_BYTES
        while True:
            try:
                left = splice(receiving, into, PIPE_SIZE, flags=_FLAGS)
            except BlockingIOError:
                return False
            if not left:
                return True
            while left:
                try:
                    sent = splice(out, sending, left, flags=_FLAGS)
                except BlockingIOError:
                    target.wait_writable()
                    continue
                left -= sent
                moved[way] += sent
            if moved[way] >= fair:
                gevent.sleep(0)
                fair = moved[way] + FAIR_BYTES

    # Ending

    def _fail(self, source: Channel, target: Channel, error: OSError) -> None:
        """Ends both directions, unless that is what is going on."""
        if self.reason:
            return
        if isinstance(error, DeadlinePassed):
            self.reason = f"{'client' if self.client.late else 'node'}: takes nothing"
        else:
            side = "client" if source is self.client else "node"
            self.reason = f"{side}: {(error.strerror or str(error)).lower()}"
        self._broken = True
        if source is self.client:
            get_hub().loop.run_callback(self._halt)

    def _halt(self) -> None:
        """Ends the direction to the client, whatever it waits for. Runs in the hub: it does wait."""
        if self._main is not None:
            self._main.throw(_Halted)

    def cut(self, now: float) -> None:
        """Ends the relay when its time is over, or when nothing has moved for `idle_timeout`."""
        seen = (self.moved[0], self.moved[1])
        # A channel that waits to send looks after itself; a slow reader is not idle.
        if seen != self._seen or self.client.writing or self.node.writing:
            self._seen, self._seen_at = seen, now
        if now >= self.ends_at:
            self._end("lifetime")
        elif now - self._seen_at >= self.idle_timeout:
            self._end("idle")
        else:
            self.deadline = min(now + self.idle_timeout / LOOKS, self.ends_at)

    def _end(self, reason: str) -> None:
        self.reason = self.reason or reason
        self.deadline = math.inf
        for channel in (self.client, self.node):
            channel.late = True  # who waits on it gets DeadlinePassed
            with suppress(OSError):
                channel.sock.shutdown(socket.SHUT_RDWR)
