"""A connection of the leader's loop that carries framed messages, in either direction, without ever blocking.

Both ends of the trade use it: admConns of workers (`hemi.procmgr.admconn`) and the operators' cmdConns.
"""

from __future__ import annotations

import selectors
import socket
from collections.abc import Callable

from hemi.procmgr.loop import Loop, Timer
from hemi.procmgr.messages import GREETING_LIMIT, LIMIT, Decoder, Message, MessageError, encode

__all__ = ["FramedConn"]

PARTING = 1.0
"""Seconds that a peer has to read the last message and close."""

MOST_PENDING = 64 << 20
"""Bytes that may wait for a peer that does not read; beyond, it is cut."""


class FramedConn:
    """`received(message)` is called for each message, `ended(reason)` once, however the connection ends.

    Until `trust` is called, messages must be small, and the first must come within `patience` seconds.
    """

    def __init__(
        self,
        loop: Loop,
        sock: socket.socket,
        received: Callable[[Message], None],
        ended: Callable[[str], None],
        patience: float = 5.0,
    ) -> None:
        sock.setblocking(False)
        self.loop = loop
        self.sock = sock
        self.received = received
        self.ended = ended
        self.decoder = Decoder(GREETING_LIMIT)
        self.broken: Callable[[str], None] | None = None
        """Called when what came is no message, and may `finish` with an answer; without it, the connection ends."""
        self.open = True
        self._out = bytearray()
        self._closing = False
        self._dropping = False
        self._timer: Timer | None = loop.after(patience, lambda: self.close("it said nothing"))
        loop.watch(sock, selectors.EVENT_READ, self._ready)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {'open' if self.open else 'closed'} waiting={len(self._out)}>"

    def trust(self) -> None:
        """The peer has proved who it is: messages may be large from now on, and silence is no fault."""
        self.decoder.limit = LIMIT
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def send(self, message: Message) -> None:
        """Sends a message, as soon as the peer takes it. What can't be sent ends the connection."""
        if not self.open or self._closing:
            return
        try:
            self._out += encode(message)
        except MessageError as error:
            self.close(str(error))
            return
        if len(self._out) > MOST_PENDING:
            self.close("it does not read what it is sent")
        else:
            self._flush()

    def finish(self) -> None:
        """Closes when everything was sent, and what still comes was dropped: unread, it would destroy what was sent."""
        self._closing = True
        if self.open and self._timer is not None:
            self._timer.cancel()
        self._timer = self.loop.after(PARTING, lambda: self.close("done"))
        self._flush()

    def drain(self) -> None:
        """Reads what has arrived."""
        while self.open and self._receive():
            pass

    def close(self, reason: str) -> None:
        """Ends the connection now. Idempotent."""
        if not self.open:
            return
        self.open = False
        if self._timer is not None:
            self._timer.cancel()
        self.loop.unwatch(self.sock)
        self.sock.close()
        self.ended(reason)

    def _ready(self) -> None:
        self._receive()
        if self.open and self._out:
            self._flush()

    def _receive(self) -> bool:
        """Reads once; False when there was nothing."""
        try:
            data = self.sock.recv(65536)
        except (BlockingIOError, InterruptedError):
            return False
        except OSError as error:
            self.close(error.strerror or str(error))
            return False
        if not data:
            self.close("done" if self._dropping else "the other side has gone")
            return False
        if self._closing:
            return True
        try:
            messages = self.decoder.feed(data)
        except MessageError as error:
            if self.broken is None:
                self.close(str(error))
            else:
                self.broken(str(error))
            return False
        for message in messages:
            if self.open:
                self.received(message)
        return True

    def _half_close(self) -> None:
        self._dropping = True
        self.loop.watch(self.sock, selectors.EVENT_READ, self._ready)
        try:
            self.sock.shutdown(socket.SHUT_WR)
        except OSError:
            self.close("done")

    def _flush(self) -> None:
        if not self.open or self._dropping:
            return
        try:
            while self._out:
                del self._out[: self.sock.send(self._out)]
        except (BlockingIOError, InterruptedError):
            pass
        except OSError as error:
            self.close(error.strerror or str(error))
            return
        if self._out:
            self.loop.watch(self.sock, selectors.EVENT_READ | selectors.EVENT_WRITE, self._ready)
        elif self._closing:
            self._half_close()
        else:
            self.loop.watch(self.sock, selectors.EVENT_READ, self._ready)
