"""Sockets: listening ones shared by address, and channels that greenlets use in blocking style.

A `Channel` reads and writes the raw non-blocking socket itself and waits on watchers that live as long as the
connection; a `gevent.socket` pays a timeout object and several Python frames for every call, which more than halves
the requests per second (see the table in docs/performance.md).

Laws of this module:
- One greenlet at a time waits for reading, and one for writing.
- A channel carries its deadline as a plain number. A `Sweeper` looks at all the channels of a gate four times a
  second and cuts the late ones: their waiting greenlet gets `DeadlinePassed`. No timer exists per operation.
- A `Listener` is shared by all the stages that name its address, and is closed by the last one that leaves it, so
  that a reload never refuses a connection.
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

from hemi.binding import ListenOptions, Target, adjust, bind, inode_of, resolve, unlink_own
from hemi.errors import EnvError
from hemi.values import Addr

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


# Listening


class Listener:
    """A listening socket, shared by all who named its address: see `listen`."""

    def __init__(
        self, key: tuple[str, str], address: Addr, sock: RawSocket, options: ListenOptions | None
    ) -> None:
        self.key = key
        self.address = address
        self.sock = sock
        self.options = options
        """What it was made with, or changed to since; None where the socket is another process's."""
        self.users = 0
        self.routes: dict[Any, Any] = {}
        """Of datagrams: who gets those of a source. It outlives reloads, and so do the sessions in it."""
        self.reader: Any = None
        """Of datagrams: who reads them now, None while nobody does."""
        self._path = address.path if options is not None and not address.path.startswith("@") else ""
        self._inode = inode_of(self._path)
        self.bound = address.path or _bound_to(sock)
        """The address as it was bound, with the port that the kernel chose for port 0."""

    def __repr__(self) -> str:
        return f"<Listener {self.bound} users={self.users}>"

    def release(self) -> None:
        """Says that one user needs it no more; the last one closes it."""
        self.users -= 1
        if self.users > 0 or _listeners.get(self.key) is not self:
            return
        del _listeners[self.key]
        self.sock.close()
        unlink_own(self._path, self._inode)

    def adjust(self, options: ListenOptions) -> Callable[[], None]:
        """Has the socket be as other options say; returns what takes it back. Raises OSError: nothing has changed."""
        before = self.options
        if before is None or before == options:
            return lambda: None
        undo_socket = adjust(self.sock, self._path, self._inode, before, options)
        self.options = options

        def undo() -> None:
            self.options = before
            undo_socket()

        return undo


def _bound_to(sock: RawSocket) -> str:
    host, port = sock.getsockname()[:2]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


_listeners: dict[tuple[str, str], Listener] = {}

wishes: dict[tuple[str, str], ListenOptions] = {}
"""The options with which `listen` was called, by key. Who prepares a stage clears them before, and so knows what the
stage wants of the sockets that are there already."""

Provider = Callable[[tuple[str, str], Target, ListenOptions, str], RawSocket]
provider: Provider | None = None
"""Gives the listening socket for a key and an owner, where none is bound here: in a worker, whose leader owns them."""


share = 0
"""The number of this process among those that serve the same addresses, from 1; 0 when there is only this one."""


def takes_datagrams(address: Addr) -> bool:
    """Whether this process takes the datagrams of an address. All do for UDP, each from a socket of its own; a Unix
    domain socket cannot be divided, and is the first process's."""
    return share <= 1 or not address.path


def listen(address: Addr, options: ListenOptions, owner: str) -> Listener:
    """Listens on a TCP or Unix domain address, or takes datagrams there when the options say so; returns the listener
    that is already there for the same address.

    Port 0 is a different address for each `owner` (the server's name). Raises EnvError when the address can't be had.
    """
    name = str(address)
    if options.datagram:
        options = options._replace(share=0 if address.path else share)
        name = f"unixgram {name}" if address.path else f"udp {name}"
        name += f" #{options.share}" if options.share else ""
    key = (name, owner if address.port == 0 and not address.path else "")
    wishes.setdefault(key, options)
    listener = _listeners.get(key)
    if listener is None:
        try:
            target = resolve(address.host, address.port, address.path, options.datagram)
            sock = bind(target, options) if provider is None else provider(key, target, options, owner)
        except OSError as error:
            raise EnvError(f"cannot listen on {address}: {error.strerror or error}") from error
        listener = _listeners.get(key)  # a provider waits: another greenlet may have been faster
        if listener is not None:
            sock.close()
        else:
            own = options if provider is None else None
            listener = _listeners[key] = Listener(key, address, sock, own)
    listener.users += 1
    return listener


def adjust_all() -> Callable[[], None]:
    """Has the sockets of this process be as `wishes` say; returns what takes it back.

    Raises EnvError, and has changed nothing then.
    """
    undone: list[Callable[[], None]] = []

    def undo() -> None:
        for each in undone:
            each()

    for key, options in wishes.items():
        try:
            if key in _listeners:
                undone.append(_listeners[key].adjust(options))
        except OSError as error:
            undo()
            raise EnvError(f"cannot change {key[0]}: {error.strerror or error}") from error
    return undo


def listening_keys() -> list[tuple[str, str]]:
    """The keys of the listeners that are in use."""
    return list(_listeners)


# Accepting

turn: Callable[[], bool] | None = None
"""Says whether to accept now, or to let another process go first that listens on the same socket."""

YIELD = 0.001
"""Seconds after which an acceptor that let others go first looks again."""

ACCEPTS_PER_TURN = 64
"""How many connections are accepted before the others get their turn."""

MOST_WAITING = 4096
"""How many connections in the kernel's queue are still accepted when a listening socket is about to be closed."""

RESERVED_FILES = 32
"""Descriptors that accepting leaves free for logs, files, upstreams and the operators."""

RETRY_INTERVAL = 0.1
"""Seconds between two looks at a shortage."""

_EXHAUSTED = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)


class Acceptor:
    """Accepts connections of a listener and hands each raw socket to `accepted(sock, peer_address)`.

    Runs in the hub: `accepted` must not block. When descriptors run out, or while `is_full()`, accepting pauses: the
    connections wait in the kernel's queue, and it resumes by itself.
    """

    def __init__(
        self,
        listener: Listener,
        accepted: Callable[[RawSocket, Any], None],
        log: Callable[[str], None],
        is_full: Callable[[], bool],
    ) -> None:
        self.listener = listener
        self.accepted = accepted
        self.log = log
        self.is_full = is_full
        self.paused = False
        self._short = False
        self._watcher: Any = None
        self._timer: Any = None
        self._yielding: Any = None
        self._limit = 0

    def start(self) -> None:
        """Begins to accept."""
        import resource

        self._limit = max(resource.getrlimit(resource.RLIMIT_NOFILE)[0] - RESERVED_FILES, 8)
        loop = get_hub().loop
        self._watcher = loop.io(self.listener.sock.fileno(), READ)
        self._timer = loop.timer(RETRY_INTERVAL, RETRY_INTERVAL)
        self._yielding = loop.timer(YIELD, YIELD)
        self._watcher.start(self._accept)

    def _accept(self) -> None:
        self._take(ACCEPTS_PER_TURN, turn)

    def _take(self, most: int, turn: Callable[[], bool] | None = None) -> None:
        listening = self.listener.sock
        family, kind, proto = listening.family, listening.type, listening.proto
        for _ in range(most):
            if turn is not None and not turn():
                self._give_way()
                return
            if self.is_full():
                self.pause("as many connections as may be are open")
                return
            try:
                fd, address = listening._accept()  # type: ignore[attr-defined]
            except BlockingIOError:
                self._short = False
                return
            except OSError as error:
                if error.errno in _EXHAUSTED:
                    self.pause(f"{os.strerror(error.errno or 0).lower()}")
                    return
                continue  # the peer gave up while it waited
            sock = RawSocket(family, kind, proto, fd)  # told all, it asks the kernel nothing
            sock.setblocking(False)
            self.accepted(sock, address)
            if fd >= self._limit:
                self.pause(f"descriptor {fd} of {self._limit + RESERVED_FILES} is in use")
                return

    def _give_way(self) -> None:
        """Looks away for a moment. Not `paused`: nothing is short."""
        if self._watcher is not None:
            self._watcher.stop()
            self._yielding.again(self._watch)

    def _watch(self) -> None:
        if self._watcher is not None:
            self._yielding.stop()
            if not self.paused:
                self._watcher.start(self._accept)

    def pause(self, reason: str) -> None:
        """Stops accepting until the shortage is over, looked at ten times a second; says why, once a shortage."""
        if self._watcher is None:
            return
        self.paused = True
        if not self._short:
            self._short = True
            self.log(f"accepting on {self.listener.bound} pauses: {reason}")
        self._watcher.stop()
        self._timer.again(self._resume)  # start() would fire at once if it has fired before

    def _resume(self) -> None:
        if self._watcher is None:
            return
        try:
            lowest_free = os.dup(self.listener.sock.fileno())
            close_now(lowest_free)
        except OSError:
            lowest_free = self._limit
        if lowest_free >= self._limit or self.is_full():
            return
        self._timer.stop()
        self.paused = False
        self._watcher.start(self._accept)

    def finish(self) -> None:
        """Stops accepting; where nobody else here listens on, accepts what waits in the kernel's queue first.

        To be called just before the socket is closed, which resets the connections in its queue.
        """
        if self._watcher is not None and self.listener.users == 1:
            self._take(MOST_WAITING)
        self.stop()

    def stop(self) -> None:
        """Stops accepting. Idempotent."""
        if self._watcher is not None:
            self._watcher.close()
            self._timer.close()
            self._yielding.close()
            self._watcher = self._timer = self._yielding = None
