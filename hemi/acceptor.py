"""Accepting: connections of a listener, as long as there is room and it is this process's turn."""

from __future__ import annotations

import errno
import os
import resource
from _socket import socket as RawSocket
from collections.abc import Callable
from typing import Any

from gevent import get_hub

from hemi.listeners import Listener
from hemi.sockets import READ, close_now

__all__ = ["RESERVED_FILES", "Acceptor"]

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
