"""A process that stands by: forked ahead, the engine imported, waiting to become a worker or a check.

Importing the engine is most of what a start costs (a third of a second); so a crashed worker is replaced, and a reload
checked, several times faster. The price is the memory of one idle process. It loads no configuration and none of the
user's code before it is told what to become.
"""

from __future__ import annotations

import array
import json
import os
import signal
import socket
from collections.abc import Callable
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from hemi.procmgr.loop import Loop

if TYPE_CHECKING:
    from hemi.procmgr.crew import Seat

__all__ = ["Stock", "await_order"]

DELAY = 0.3
"""Seconds before the next one is made: what is going on now has the processor first."""


class Stock:
    """Keeps one process in stock. `become(descriptor)` turns a forked child into it and never returns."""

    def __init__(self, loop: Loop, become: Callable[[int], None]) -> None:
        self.loop = loop
        self.become = become
        self.open = False
        """Whether there should be one."""
        self.pid = 0
        self._sock: socket.socket | None = None
        self._ordered = False

    def __repr__(self) -> str:
        return f"<Stock {self.pid or 'empty'}>"

    def refill(self, delay: float = DELAY) -> None:
        """Sees to it that there is one soon, after so many seconds. Idempotent."""
        if self.open and not self.pid and not self._ordered:
            self._ordered = True
            self.loop.after(delay, self._make)

    def _make(self) -> None:
        self._ordered = False
        if not self.open or self.pid:
            return
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        try:
            pid = os.fork()
        except OSError:
            ours.close()
            theirs.close()
            return
        if pid == 0:
            self.become(theirs.fileno())
            os._exit(20)
        theirs.close()
        ours.setblocking(False)
        self.pid, self._sock = pid, ours

    def take_worker(self, seat: Seat) -> tuple[int, socket.socket] | None:
        """Makes a worker of it; returns its process id and our end of its lifeline. None when there is none."""
        return self._take({"become": "worker", "seat": asdict(seat)})

    def take_check(self, writer: int) -> tuple[int, socket.socket] | None:
        """Has it check the configuration, and write what comes of it to the descriptor. None when there is none."""
        return self._take({"become": "check"}, writer)

    def _take(self, message: dict[str, Any], *descriptors: int) -> tuple[int, socket.socket] | None:
        pid, sock = self.pid, self._sock
        self.pid, self._sock = 0, None
        self.refill()
        if sock is None:
            return None
        try:
            socket.send_fds(sock, [json.dumps(message).encode()], list(descriptors))
        except OSError:  # it has died; whoever reaps it finds no place for it
            sock.close()
            return None
        return pid, sock

    def discard(self) -> None:
        """Ends it: it has imported what is old code by now."""
        if self._sock is not None:
            self._sock.close()
            os.kill(self.pid, signal.SIGKILL)
        self.pid, self._sock = 0, None

    def note_end(self, pid: int) -> None:
        """Says that a process has ended, which may be the one in stock."""
        if pid == self.pid and self._sock is not None:
            self._sock.close()
            self.pid, self._sock = 0, None

    def close(self) -> None:
        """Does without from now on."""
        self.open = False
        self.discard()


def await_order(descriptor: int) -> tuple[dict[str, Any], int]:
    """In the process that stands by: waits for what to become, and the descriptor that came with it (or -1).

    Ends the process when the leader has gone.
    """
    from _socket import socket as RawSocket

    sock = RawSocket(socket.AF_UNIX, socket.SOCK_SEQPACKET, 0, descriptor)
    sock.setblocking(True)
    room = socket.CMSG_SPACE(array.array("i").itemsize)
    data, ancillary, _, _ = sock.recvmsg(65536, room, socket.MSG_CMSG_CLOEXEC)
    sock.detach()
    if not data:
        os._exit(0)
    passed = -1
    for level, kind, content in ancillary:
        if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
            passed = array.array("i", content[:4])[0]
    order: dict[str, Any] = json.loads(data)
    return order, passed
