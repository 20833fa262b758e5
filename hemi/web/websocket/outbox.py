"""What a WebSocket sends: whole frames, of any number of greenlets, one after another."""

from __future__ import annotations

import errno
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING

import gevent
from gevent.event import Event

from hemi.sockets import Channel

if TYPE_CHECKING:
    from hemi.web.response import Response

__all__ = ["Outbox"]


class Outbox:
    """Frames on their way. `writing` says that somebody sends; what others have to send meanwhile waits in a queue, and
    whoever writes sends it, too. More than `most` bytes make senders wait.

    `lost` is called with the reason when the queue cannot be sent: nobody is there whom an exception would reach.
    """

    __slots__ = ("_channel", "_drained", "_lost", "_most", "_out", "_response", "dead", "queued", "writing")

    def __init__(self, channel: Channel, response: Response, most: int, lost: Callable[[str], None]) -> None:
        self._channel = channel
        self._response = response
        self._most = most
        self._lost = lost
        self._out: deque[bytes] | None = None
        self._drained: Event | None = None
        self.queued = 0
        self.writing = False
        self.dead = False

    def __repr__(self) -> str:
        state = "dead" if self.dead else "writing" if self.writing else "idle"
        return f"<Outbox {state} queued={self.queued}>"

    def write(self, frame: bytes, patient: bool = True) -> None:
        """Sends a frame, or leaves it to whoever sends now; waits for the client if it is `patient`. Raises OSError."""
        if self.dead:
            raise BrokenPipeError(errno.EPIPE, "the connection has ended")
        if self.writing:
            self._queue(frame)
            while patient and self.queued > self._most:
                self._event().wait()
            return
        self.writing = True
        try:
            self._channel.send(frame)
            self._response.bytes_sent += len(frame)
            if self._out:
                self._send_queue()
        finally:
            self.writing = False
            if self._drained is not None:
                self._drained.set()

    def offer(self, frame: bytes, most: int | None = None) -> bool:
        """Sends a frame without waiting: at once, or from the queue. False, and nothing is sent, when it would have to
        wait behind so much that more than `most` bytes wait then, or when the connection has ended."""
        if self.dead:
            return False
        if not self.writing and self._channel.__class__ is Channel:
            # Without a greenlet: five times as many members a second in a room whose members keep up.
            try:
                sent = self._channel.sock.send(frame)
            except BlockingIOError:
                sent = 0
            except OSError as error:
                self._lost(str(error))
                return False
            self._response.bytes_sent += sent
            if sent == len(frame):
                return True
            frame = frame[sent:]
        elif most is not None and self.queued + len(frame) > most:
            return False
        self._queue(frame)
        if not self.writing:
            self.writing = True
            gevent.spawn(self._pump)
        return True

    def give_up(self) -> None:
        """Forgets what waits: the connection has ended."""
        self.dead = True
        if self._out:
            self._out.clear()
        self.queued = 0
        if self._drained is not None:
            self._drained.set()

    def release(self) -> None:
        """Lets go of who made it: the circle would be work for the collector."""
        self._lost = _ignore

    def wait(self, seconds: float) -> None:
        """Waits until everything has gone out, or cannot any more, for up to so long."""
        with gevent.Timeout(seconds, False):  # type: ignore[arg-type]  # silent: what the stubs do not know
            while self.writing and not self.dead:
                event = self._event()
                event.clear()
                event.wait()

    def _event(self) -> Event:
        """Set when the queue has become shorter."""
        if self._drained is None:
            self._drained = Event()
        return self._drained

    def _queue(self, frame: bytes) -> None:
        if self._out is None:
            self._out = deque()
        self._out.append(frame)
        self.queued += len(frame)
        if self.queued > self._most:
            self._event().clear()

    def _send_queue(self) -> None:
        """Sends what waits, and what comes meanwhile."""
        out = self._out
        while out:
            data = b"".join(out)
            out.clear()
            self._channel.send(data)
            self._response.bytes_sent += len(data)
            self.queued = max(0, self.queued - len(data))
            if self._drained is not None:
                self._drained.set()
        self._out = None

    def _pump(self) -> None:
        try:
            self._send_queue()
        except OSError as error:
            self._lost(str(error))
        finally:
            self.writing = False
            if self._drained is not None:
                self._drained.set()


def _ignore(why: str) -> None:
    """Whoever would want to know has gone."""
