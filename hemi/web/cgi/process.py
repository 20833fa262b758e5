"""Running a program for one request: pipes, limits, and its end, which must not be left to chance.

The program leads a session, and so a process group, of its own: what it starts can be ended with it. Limits are set by
prlimit(1) before the program runs; code of ours between fork and exec would run in a copy of a process with many
greenlets.
"""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Callable
from time import monotonic
from typing import Any

import gevent
from gevent import get_hub, getcurrent

from hemi.sockets import READ, WRITE, DeadlinePassed, close_now
from hemi.web.cgi.errorlines import ErrorLines

__all__ = ["PipeWire", "Process"]

RECV_SIZE = 65536
LOOK_AROUND = 0.5
"""Seconds between two looks at whether the client is still there."""

LAST_WORDS = 0.5
"""Seconds that stderr is read for when the program has ended: what it has started may hold it open."""


class Process:
    """A program that runs. `args[0]` is what it calls itself, `path` the file. Raises OSError when it cannot run."""

    def __init__(
        self,
        path: str,
        args: list[str],
        variables: dict[str, str],
        folder: str,
        log: Callable[[str], None],
    ) -> None:
        ours: list[int] = []
        theirs: list[int] = []
        try:
            for inbound in (False, True, True):
                reader, writer = os.pipe2(os.O_CLOEXEC)
                ours.append(reader if inbound else writer)
                theirs.append(writer if inbound else reader)
            for fd in ours:
                os.set_blocking(fd, False)
            environment: Any = {
                name.encode("latin-1"): value.encode("latin-1") for name, value in variables.items()
            }
            self._popen = subprocess.Popen(
                args,
                executable=path,
                stdin=theirs[0],
                stdout=theirs[1],
                stderr=theirs[2],
                env=environment,
                cwd=folder,
                start_new_session=True,
            )
        except BaseException:
            for fd in ours:
                close_now(fd)
            raise
        finally:
            for fd in theirs:
                close_now(fd)
        self.pid = self._popen.pid
        self.stdin, self.stdout, self._stderr = ours
        self._lines = ErrorLines(log)
        self._reader = gevent.spawn(self._read_errors)

    def __repr__(self) -> str:
        return f"<Process {self.pid} {self.status or 'running'}>"

    @property
    def status(self) -> str:
        """How it has ended, "" while it runs."""
        code = self._popen.poll()
        if code is None:
            return ""
        if code >= 0:
            return f"exited with status {code}"
        try:
            return f"was killed by {signal.Signals(-code).name}"
        except ValueError:
            return f"was killed by signal {-code}"

    @property
    def failed(self) -> bool:
        """Whether it has ended, and not well."""
        return bool(self._popen.poll())

    def wait(self, seconds: float) -> bool:
        """Waits for its end for so long; whether it has ended."""
        try:
            self._popen.wait(timeout=seconds)
        except subprocess.TimeoutExpired:
            return False
        return True

    def signal(self, number: signal.Signals) -> None:
        """Sends a signal to it, and to all that it has started and that has not left its group."""
        try:
            os.killpg(self.pid, number)
        except (ProcessLookupError, PermissionError):
            pass

    def end(self, patience: float, grace: float) -> None:
        """Waits `patience` seconds for its end, else asks it to end, and kills it `grace` seconds later."""
        self.close_pipes()
        if not (patience > 0 and self.wait(patience)):
            self.signal(signal.SIGTERM)
            if not self.wait(grace):
                self.signal(signal.SIGKILL)
                self.wait(10)
            self.signal(signal.SIGKILL)  # what is left of its group
        self._reader.join(LAST_WORDS)
        self._reader.kill()
        self._lines.finish()

    def close_input(self) -> None:
        """Says that there is no more input. Idempotent."""
        if self.stdin >= 0:
            fd, self.stdin = self.stdin, -1
            close_now(fd)

    def close_pipes(self) -> None:
        """Closes its input and its output. Idempotent."""
        self.close_input()
        if self.stdout >= 0:
            fd, self.stdout = self.stdout, -1
            close_now(fd)

    def _read_errors(self) -> None:
        """Passes on what it writes to stderr: a greenlet of its own, as a full pipe would stop the program."""
        fd = self._stderr
        watcher = get_hub().loop.io(fd, READ)
        try:
            while True:
                try:
                    data = os.read(fd, RECV_SIZE)
                except BlockingIOError:
                    get_hub().wait(watcher)
                    continue
                if not data:
                    return
                self._lines.feed(data)
        finally:
            watcher.close()
            close_now(fd)


class PipeWire:
    """The pipes of a program. `look` is called now and then while nothing comes, and may raise."""

    __slots__ = ("look", "process")

    def __init__(self, process: Process, look: Callable[[], None]) -> None:
        self.process = process
        self.look = look

    def send_some(self, data: memoryview) -> memoryview:
        """Sends what the pipe takes; a program that has closed its input gets nothing."""
        if self.process.stdin < 0:
            return data[len(data) :]
        try:
            return data[os.write(self.process.stdin, data[:RECV_SIZE]) :]
        except BlockingIOError:
            return data
        except BrokenPipeError:  # it does not want it, which is its right (RFC 3875 §4.2)
            self.process.close_input()
            return data[len(data) :]

    def flush(self) -> bool:
        """All that is taken is in the pipe."""
        return True

    def receive_now(self) -> bytes | None:
        """What has come, b"" at the end, None when there is nothing yet."""
        try:
            return os.read(self.process.stdout, RECV_SIZE)
        except BlockingIOError:
            return None

    def receive(self, deadline: float) -> bytes:
        """Waits for what comes next. Raises DeadlinePassed."""
        while (data := self.receive_now()) is None:
            self._pause(deadline, False)
        return data

    def wait(self, deadline: float) -> None:
        """Waits until the pipes take or have something. Raises DeadlinePassed."""
        self._pause(deadline, True)

    def _pause(self, deadline: float, both: bool) -> None:
        """Waits, and looks around when it takes long."""
        seconds = deadline - monotonic()
        if seconds <= 0:
            raise DeadlinePassed("the program does not answer in time")
        loop = get_hub().loop
        watchers: list[Any] = [loop.io(self.process.stdout, READ)]
        if both and self.process.stdin >= 0:
            watchers.append(loop.io(self.process.stdin, WRITE))
        timer: Any = loop.timer(min(seconds, LOOK_AROUND))
        ready = getcurrent().switch
        try:
            for watcher in watchers:
                watcher.start(ready, True)
            timer.start(ready, False)
            came = get_hub().switch()
        finally:
            for watcher in (*watchers, timer):
                watcher.stop()
                watcher.close()
        if not came:
            self.look()
