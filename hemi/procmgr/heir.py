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


class Heir:
    """`ready` turns true when it serves, `status` is set when it has ended."""

    def __init__(self, loop: Loop, pid: int, reader: int) -> None:
        self.pid = pid
        self.ready = False
        self.status: int | None = None
        self._loop = loop
        self._reader = reader
        loop.watch(reader, selectors.EVENT_READ, self._read)

    def __repr__(self) -> str:
        return f"<Heir {self.pid} {'ready' if self.ready else 'ended' if self.status is not None else 'starting'}>"

    def _read(self) -> None:
        self.ready = bool(os.read(self._reader, 1))
        self._loop.unwatch(self._reader)
        os.close(self._reader)

    def ended(self, status: int) -> None:
        """Notes that it has ended."""
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

    def accept(self) -> None:
        """Tells the old leader that it may go. Idempotent."""
        pipe, self._pipe = self._pipe, -1
        if pipe >= 0:
            try:
                os.write(pipe, b"1")
            except OSError:
                pass
            os.close(pipe)
