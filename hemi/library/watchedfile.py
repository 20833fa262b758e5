"""A small file whose content is kept parsed, and read again when it has changed: password files, tables.

What is kept stays when the file becomes unreadable or wrong: a typing error while an operator edits must not lock
everybody out, or let everybody in.
"""

from __future__ import annotations

import os
import stat
import time
from collections.abc import Callable
from typing import Generic, TypeVar

T = TypeVar("T")

INTERVAL = 1.0
"""Seconds between two looks at a file."""

MAX_SIZE = 64 << 20

# A second change within the granularity of the file system's clock leaves the times as they are: a file that was this
# young when it was read is read once more.
YOUNG_NS = 50_000_000


class WatchedFile(Generic[T]):
    """A file, read and parsed by `parse`, which raises ValueError for a content that is wrong.

    `complain` gets a message when the file could not be read again, once for each change.
    """

    def __init__(
        self,
        path: str,
        parse: Callable[[str], T],
        complain: Callable[[str], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Reads the file; raises OSError, or ValueError."""
        self.path = path
        self._parse = parse
        self._complain = complain
        self._clock = clock
        self._complaint = ""
        self._mark: tuple[int, ...] | None = None
        self._value = self._read()
        self._due = clock() + INTERVAL

    def get(self) -> T:
        """The content, as it was at most a second ago."""
        now = self._clock()
        if now >= self._due:
            self._due = now + INTERVAL
            self._look()
        return self._value

    def _look(self) -> None:
        try:
            if self._mark is None or _mark(os.stat(self.path)) != self._mark:
                self._value = self._read()
            self._complaint = ""
        except (OSError, ValueError) as error:
            self._mark = None
            reason = getattr(error, "strerror", None) or str(error)
            if reason != self._complaint:
                self._complaint = reason
                self._complain(f"{self.path} cannot be read again, what it was before goes on: {reason}")

    def _read(self) -> T:
        # Neither a FIFO nor a terminal may make us wait.
        descriptor = os.open(self.path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY)
        with open(descriptor, "rb", buffering=0) as file:
            found = os.fstat(descriptor)
            if not stat.S_ISREG(found.st_mode):
                raise ValueError("it is not a regular file")
            if found.st_size > MAX_SIZE:
                raise ValueError(f"it must not be larger than {MAX_SIZE} bytes")
            data = file.readall()
        value = self._parse(data.decode("utf-8"))
        young = time.time_ns() - found.st_mtime_ns < YOUNG_NS
        self._mark = None if young else _mark(found)
        return value


def _mark(found: os.stat_result) -> tuple[int, ...]:
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns
