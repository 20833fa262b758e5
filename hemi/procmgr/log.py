"""What the leader tells, on stderr, in the form that the error log of a stage has: TIME LEVEL PID SUBSYSTEM: MESSAGE.

The error log proper (`hemi.logger`) belongs to the engine, which the leader does not load.
"""

from __future__ import annotations

import os
import sys
import time
import traceback

__all__ = ["Log"]


class Log:
    """Writes lines; never raises."""

    def __init__(self, subsystem: str = "leader", debug: int = 0) -> None:
        self.subsystem = subsystem
        self.verbose = debug > 0

    def debug(self, message: str) -> None:
        """For who looks into a problem."""
        if self.verbose:
            self._write("debug", message)

    def info(self, message: str) -> None:
        """What an operator may want to know."""
        self._write("info", message)

    def warning(self, message: str) -> None:
        """What an operator should look at."""
        self._write("warning", message)

    def error(self, message: str, error: BaseException | None = None) -> None:
        """What went wrong; `error` adds its traceback."""
        text = "".join(traceback.format_exception(error)) if error is not None else ""
        self._write("error", message, text)

    def _write(self, level: str, message: str, more: str = "") -> None:
        now = time.time()
        local = time.localtime(now)
        zone = time.strftime("%z", local)
        stamp = f"{time.strftime('%Y-%m-%dT%H:%M:%S', local)}.{int(now % 1 * 1000):03}{zone[:3]}:{zone[3:]}"
        lines = [f"{stamp} {level} {os.getpid()} {self.subsystem}: {message}"]
        lines += [f"    {line}" for line in more.splitlines()]
        try:
            sys.stderr.write("\n".join(lines) + "\n")
            sys.stderr.flush()
        except (OSError, ValueError):  # nobody reads it any more: the leader goes on without
            pass
