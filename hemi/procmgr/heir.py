"""An upgrade's new leader, as the old one sees it; and what a new leader finds in its environment.

The new leader is the program as it is on disk now, started with the same command line by exec. It inherits the
listening sockets and one end of a pipe, on which it says that it serves.
"""

from __future__ import annotations

import json
import os
import selectors
import signal
import sys
from typing import Any

from hemi.procmgr.loop import Loop

__all__ = ["Heir", "Heritage"]

VARIABLE = "GOROX_UPGRADE"
_READY = b"\0"
"""What a new leader that serves writes to the pipe; any other text is why it cannot."""


class Heir:
    """`ready` turns true when it serves, `status` is set when it has ended; `problems` say why it could not."""

    def __init__(self, loop: Loop, pid: int, reader: int) -> None:
        self.pid = pid
        self.ready = False
        self.status: int | None = None
        self._told = b""
        self._loop = loop
        self._reader = reader
        os.set_blocking(reader, False)
        loop.watch(reader, selectors.EVENT_READ, self._read)

    def __repr__(self) -> str:
        return f"<Heir {self.pid} {'ready' if self.ready else 'ended' if self.status is not None else 'starting'}>"

    def _read(self) -> None:
        try:
            piece = os.read(self._reader, 65536)
        except BlockingIOError:  # somebody else has the other end still, who will say nothing
            piece = b""
        self._told += piece
        self.ready = self._told.startswith(_READY)
        if self.ready or not piece:
            self._loop.unwatch(self._reader)
            os.close(self._reader)
            self._reader = -1

    @property
    def problems(self) -> list[str]:
        """What it has said about why it cannot serve, one a line."""
        return [] if self.ready else self._told.decode("utf-8", "replace").splitlines()

    def ended(self, status: int) -> None:
        """Notes that it has ended; what it said last is read before."""
        while self._reader >= 0:
            self._read()
        self.status = status

    def kill(self) -> None:
        """Ends one that did not get ready. Its workers see that, and end too."""
        if self.status is None:
            os.kill(self.pid, signal.SIGKILL)


def start(loop: Loop, directory: str, environ: dict[str, str], sockets: list[dict[str, Any]]) -> Heir:
    """Starts a new leader in the directory that this one was started in. Raises OSError."""
    reader, writer = os.pipe2(os.O_CLOEXEC)
    try:
        pid = os.fork()
    except OSError:
        os.close(reader)
        os.close(writer)
        raise
    if pid == 0:
        _become_heir(directory, environ, sockets, writer)
    os.close(writer)
    return Heir(loop, pid, reader)


def _become_heir(directory: str, environ: dict[str, str], sockets: list[dict[str, Any]], writer: int) -> None:
    try:
        for descriptor in [writer, *(each["fd"] for each in sockets)]:
            os.set_inheritable(descriptor, True)
        heritage = {"sockets": sockets, "pipe": writer, "pid": os.getppid()}
        os.chdir(directory)
        environ = {
            name: value for name, value in environ.items() if name != "WATCHDOG_PID"
        }  # it is not the same
        argv = [sys.executable, *sys.orig_argv[1:]]
        os.execve(sys.executable, argv, {**environ, VARIABLE: json.dumps(heritage)})
    except BaseException as error:
        print(f"the new leader cannot be started: {error}", file=sys.stderr, flush=True)
    os._exit(22)


class Heritage:
    """What an upgrade left to this process; empty for a leader that was started otherwise."""

    def __init__(self) -> None:
        given = json.loads(os.environ.pop(VARIABLE, "{}"))
        self.sockets: list[dict[str, Any]] = given.get("sockets", [])
        self.pid: int = given.get("pid", 0)
        self._pipe: int = given.get("pipe", -1)
        if self._pipe >= 0:
            os.set_inheritable(self._pipe, False)

    def __bool__(self) -> bool:
        return bool(self.pid)

    @property
    def open(self) -> bool:
        """True as long as the old leader waits to hear from us."""
        return self._pipe >= 0

    def accept(self) -> None:
        """Tells the old leader that it may go. Idempotent."""
        pipe, self._pipe = self._pipe, -1
        if pipe >= 0:
            _write(pipe, _READY)
            os.close(pipe)

    def refuse(self, why: str) -> None:
        """Tells the old leader why we cannot take over."""
        if self._pipe >= 0:
            _write(self._pipe, why.encode("utf-8", "replace")[:60000])


def _write(pipe: int, data: bytes) -> None:
    try:
        os.write(pipe, data)
    except OSError:  # the old leader has gone
        pass
