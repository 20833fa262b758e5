"""Connected sockets: channels that greenlets use in blocking style.

A `Channel` reads and writes the raw non-blocking socket itself and waits on watchers that live as long as the
connection; a `gevent.socket` pays a timeout object and several Python frames for every call, which more than halves
the requests per second (see the table in docs/performance.md).

Laws of this module:
- One greenlet at a time waits for reading, and one for writing.
- A channel carries its deadline as a plain number. A `Sweeper` looks at all the channels of a gate four times a
  second and cuts the late ones: their waiting greenlet gets `DeadlinePassed`. No timer exists per operation.
- Nothing here knows a protocol.
"""

from __future__ import annotations

import errno
import fcntl
import math
import os
import socket
import struct
import termios
from _socket import socket as RawSocket
from collections.abc import Callable, Iterable
from time import monotonic
from typing import Any, NamedTuple, Protocol

from gevent import get_hub, getcurrent, monkey

READ, WRITE = 1, 2
SWEEP_INTERVAL = 0.25
"""Seconds between two looks at the deadlines; a cut comes at most this much late."""

LINGER_BYTES = 1 << 20
"""How much a lingering close reads and drops at the most."""

close_now = monkey.get_original("os", "close")
"""gevent's own close waits for the next turn of the hub."""

_BROKEN = (errno.EPIPE, errno.ECONNRESET, errno.ENOTCONN, errno.EBADF, errno.ESHUTDOWN, errno.ETIMEDOUT)


class DeadlinePassed(TimeoutError):
    """The deadline of a channel passed while a greenlet waited on it."""


class Peer(NamedTuple):
    """The other end of a connection. A Unix domain peer has host "unix:" and port 0."""

    host: str
    port: int


class Cuttable(Protocol):
    """What a `Sweeper` looks after."""

    deadline: float

    def cut(self, now: float) -> None: ...


class Channel:
    """A connected stream socket (TCP or Unix domain), read and written in blocking style by greenlets.

    `deadline` is an absolute `time.monotonic()` in seconds, or infinity; it holds for the operation that waits now.
    `write_timeout` (seconds) is how long a peer may take less than `least_taken` bytes of what is being sent.
    """

    __slots__ = (
        "_outq",
        "_reader",
        "_switch_out",
        "_writer",
        "deadline",
        "late",
        "least_taken",
        "sock",
        "tls",
        "write_timeout",
        "writing",
    )

    def __init__(self, sock: RawSocket, write_timeout: float = 60.0) -> None:
        hub = get_hub()
        self.sock = sock
        self.tls: Any = None
        self.deadline = math.inf
        self.late = False
        self.writing = False
        self.write_timeout = write_timeout
        self.least_taken = 1
        self._switch_out = hub.switch
        self._reader: Any = hub.loop.io(sock.fileno(), READ)
        self._writer: Any = None
        self._outq = 0

    def __repr__(self) -> str:
        state = "closed" if self._reader is None else "late" if self.late else "open"
        return f"<{type(self).__name__} {state} fd={self.sock.fileno()}>"

    # Reading

    def wait_readable(self) -> None:
        """Waits until there is something to read, or the end. Raises DeadlinePassed."""
        watcher = self._reader
        if watcher is None:
            raise ConnectionAbortedError("the channel is closed")
        watcher.start(getcurrent().switch)
        try:
            self._switch_out()
        finally:
            watcher.stop()
        if self.late:
            raise DeadlinePassed("the deadline for reading has passed")

    def on_readable(self, call: Callable[[], None]) -> None:
        """Has the hub call something whenever there is something to read, or the end, until `stop_reading`. No greenlet
        may wait for reading meanwhile. Raises OSError when the channel is closed."""
        if self._reader is None:
            raise ConnectionAbortedError("the channel is closed")
        self._reader.start(call)

    def stop_reading(self) -> None:
        """Ends that. Idempotent."""
        if self._reader is not None:
            self._reader.stop()

    def recv(self, size: int) -> bytes:
        """Returns 1 to `size` bytes, or b"" at the end. Raises DeadlinePassed, OSError."""
        while True:
            try:
                return self.sock.recv(size)
            except BlockingIOError:
                self.wait_readable()

    def recv_waiting(self, size: int) -> bytes:
        """Like `recv`, for who expects to wait: waits first, and so saves the failing system call."""
        watcher = self._reader
        if watcher is None:
            raise ConnectionAbortedError("the channel is closed")
        watcher.start(getcurrent().switch)  # `wait_readable`, written out: every request comes this way
        try:
            self._switch_out()
        finally:
            watcher.stop()
        if self.late:
            raise DeadlinePassed("the deadline for reading has passed")
        try:
            return self.sock.recv(size)
        except BlockingIOError:
            return self.recv(size)

    def peek(self, size: int) -> bytes:
        """Returns the next 1 to `size` bytes without taking them, or b"" at the end."""
        while True:
            try:
                return self.sock.recv(size, socket.MSG_PEEK)
            except BlockingIOError:
                self.wait_readable()

    # Writing

    def send(self, data: bytes) -> None:
        """Sends all of `data`. Raises DeadlinePassed when the peer takes nothing for `write_timeout`, OSError."""
        try:
            sent = self.sock.send(data)
        except BlockingIOError:
            sent = 0
        if sent != len(data):
            self._send_rest(memoryview(data)[sent:])

    def send_pieces(self, pieces: list[bytes]) -> None:
        """Sends the pieces one after another with a single system call where the peer keeps up."""
        try:
            sent = self.sock.sendmsg(pieces)
        except BlockingIOError:
            sent = 0
        for piece in pieces:
            size = len(piece)
            if sent >= size:
                sent -= size
            else:
                self._send_rest(memoryview(piece)[sent:])
                sent = 0

    def send_file(self, file: int, start: int, size: int, head: bytes = b"") -> None:
        """Sends `head`, then `size` bytes of the open file from `start` by sendfile(2).

        Raises EOFError when the file is shorter.
        """
        if head:
            try:
                sent = self.sock.send(head, socket.MSG_MORE)
            except BlockingIOError:
                sent = 0
            if sent != len(head):
                self._send_rest(memoryview(head)[sent:])
        out = self.sock.fileno()
        end = start + size
        while start < end:
            try:
                sent = os.sendfile(out, file, start, min(end - start, 1 << 30))
            except BlockingIOError:
                self.wait_writable()
                continue
            if sent == 0:
                raise EOFError(f"the file ends {end - start} bytes early")
            start += sent

    def wait_writable(self) -> None:
        """Waits until the peer takes more. Raises DeadlinePassed after `write_timeout` without progress."""
        watcher = self._writer
        if watcher is None:
            if self._reader is None:
                raise ConnectionAbortedError("the channel is closed")
            watcher = self._writer = get_hub().loop.io(self.sock.fileno(), WRITE)
        before = self.deadline
        self._outq = self._unsent()
        self.deadline = min(before, monotonic() + self.write_timeout)
        self.writing = True
        watcher.start(getcurrent().switch)
        try:
            self._switch_out()
        finally:
            watcher.stop()
            self.writing = False
            self.deadline = before
        if self.late:
            raise DeadlinePassed("the peer does not take what is sent to it")

    def _send_rest(self, rest: memoryview) -> None:
        while rest:
            self.wait_writable()
            try:
                rest = rest[self.sock.send(rest) :]
            except BlockingIOError:
                continue

    def _unsent(self) -> int:
        """Bytes that the kernel still holds for the peer."""
        try:
            return int(struct.unpack("i", fcntl.ioctl(self.sock.fileno(), termios.TIOCOUTQ, b"\0\0\0\0"))[0])
        except (OSError, ValueError):
            return 0

    # Ending

    def cut(self, now: float) -> None:
        """Ends the wait of whoever waits on the channel; the sweeper's call when the deadline has passed.

        The kernel takes megabytes for a peer that reads slowly but steadily, and reports "writable" only when a good
        part of them has gone: a peer that took enough of them since the last look gets more time.
        """
        if self.writing:
            unsent = self._unsent()
            if self._outq - unsent >= max(1, min(self.least_taken, self._outq)):
                self._outq = unsent
                self.deadline = now + self.write_timeout
                return
        self.late = True
        self.deadline = math.inf
        try:
            self.sock.shutdown(socket.SHUT_RDWR if self.writing else socket.SHUT_RD)
        except OSError:
            pass

    def shutdown_write(self) -> None:
        """Says that no more will be sent."""
        try:
            self.sock.shutdown(socket.SHUT_WR)
        except OSError:
            pass

    def linger(self, seconds: float) -> None:
        """Ends sending, then drops what still arrives for up to `seconds` seconds, so that the peer can read the last
        answer: closing with unread data would send a reset that destroys it (RFC 9112 §9.6)."""
        self.shutdown_write()
        self.late = False
        self.deadline = monotonic() + seconds
        dropped = 0
        try:
            while dropped < LINGER_BYTES:
                data = self.sock_recv(65536)
                if not data:
                    break
                dropped += len(data)
        except OSError:
            pass

    def sock_recv(self, size: int) -> bytes:
        """Reads from the socket below any encryption."""
        return Channel.recv(self, size)

    def close(self) -> None:
        """Closes the socket. Idempotent. A greenlet that waits on the channel is woken with an error."""
        if self._reader is None:
            return
        self._reader.close()
        self._reader = None
        if self._writer is not None:
            self._writer.close()
            self._writer = None
        self.sock.close()

    def reset(self) -> None:
        """Closes with a reset, so that the peer cannot take a message that was cut for a whole one."""
        try:
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        except OSError:
            pass
        self.close()


def is_broken(error: OSError) -> bool:
    """True when the error says that the peer has gone, not that something is wrong here."""
    return isinstance(error, TimeoutError) or error.errno in _BROKEN


class Sweeper:
    """Cuts what has passed its deadline. One per gate, started with it."""

    def __init__(self, members: Iterable[Cuttable]) -> None:
        self.members = members
        self._timer: Any = None

    def start(self) -> None:
        """Begins to look, every SWEEP_INTERVAL seconds."""
        self._timer = get_hub().loop.timer(SWEEP_INTERVAL, SWEEP_INTERVAL)
        self._timer.start(self.sweep)

    def sweep(self) -> None:
        """Looks once at all the deadlines."""
        now = monotonic()
        for member in [member for member in self.members if member.deadline < now]:
            member.cut(now)

    def stop(self) -> None:
        """Stops looking. Idempotent."""
        if self._timer is not None:
            self._timer.close()
            self._timer = None
