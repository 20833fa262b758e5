"""Going to the background, and the pid file.

The starter stays until the leader serves, or cannot: so its exit code and its messages are the leader's.
"""

from __future__ import annotations

import fcntl
import os
import sys
from collections.abc import Callable

from hemi.errors import EnvError

__all__ = ["PidFile", "Starter", "detach", "redirect"]


class Starter:
    """The daemon's line to the process that started it, which waits for a verdict."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def report(self, code: int, text: str = "") -> None:
        """Has the starter print the text and exit with the code. Only the first report counts."""
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor < 0:
            return
        try:
            os.write(descriptor, bytes([code]) + text.encode("utf-8", "replace")[:60000])
        except OSError:
            pass
        os.close(descriptor)


def detach() -> Starter:
    """Forks a daemon and returns in it. The starting process waits for its report, and never returns.

    Twice forked, so that it leads no session and cannot get a terminal back.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    reader, writer = os.pipe2(os.O_CLOEXEC)
    pid = os.fork()
    if pid:
        os.close(writer)
        os.waitpid(pid, 0)
        os._exit(_await_report(reader))
    os.close(reader)
    os.setsid()
    if os.fork():
        os._exit(0)
    return Starter(writer)


def _await_report(reader: int) -> int:
    data = b""
    while piece := os.read(reader, 65536):
        data += piece
    if not data:
        print("the daemon ended without a word; see its log files", file=sys.stderr)
        return 11
    text = data[1:].decode("utf-8", "replace")
    if text:
        print(text, file=sys.stderr if data[0] else sys.stdout, flush=True)
    return data[0]


def redirect(stdout: str, stderr: str) -> Callable[[], None]:
    """Sends standard output and error to files, appending; returns what opens them anew. Raises EnvError."""

    def reopen() -> None:
        for path, descriptor in ((stdout, 1), (stderr, 2)):
            try:
                file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o640)
            except OSError as error:
                raise EnvError(f"cannot open {path}: {error.strerror}") from error
            os.dup2(file, descriptor)
            os.close(file)

    reopen()
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    os.close(null)
    return reopen


class PidFile:
    """A file with the leader's process id, locked as long as the leader lives: a stale one is no obstacle."""

    def __init__(self, path: str) -> None:
        self.path = path
        self._file = -1

    def take(self, successor: bool = False) -> None:
        """Writes our process id. Raises EnvError when another leader has the file, unless we succeed it."""
        other = self._owner()
        if other and not successor:
            raise EnvError(f"{self.path}: process {other} is running already")
        temporary = f"{self.path}.{os.getpid()}"
        try:
            _unlink(temporary)
            # The folder may be writable for the workers' user: no link of theirs is followed.
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
            file = os.open(temporary, flags, 0o644)
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            os.write(file, f"{os.getpid()}\n".encode())
            os.rename(temporary, self.path)
        except OSError as error:
            raise EnvError(f"cannot write {self.path}: {error.strerror}") from error
        self._file = file

    def _owner(self) -> str:
        """The process id in the file if its writer still lives, else ""."""
        try:
            file = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            return ""
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return ""
        except OSError:
            return os.read(file, 32).decode("ascii", "replace").strip() or "?"
        finally:
            os.close(file)

    def remove(self) -> None:
        """Removes the file if it is still ours. Idempotent."""
        if self._file < 0:
            return
        try:
            with open(self.path, encoding="ascii") as file:
                ours = file.read().strip() == str(os.getpid())
            if ours:
                os.unlink(self.path)
        except (OSError, ValueError):
            pass
        os.close(self._file)
        self._file = -1


def _unlink(path: str) -> None:
    try:
        os.unlink(path)
    except FileNotFoundError:
        pass
