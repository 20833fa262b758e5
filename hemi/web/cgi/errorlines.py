"""What programs write to stderr, as lines for the error log: capped, as a program in a loop must not fill the disk,
and without control characters, as a line of a client's making must not look like one of ours."""

from __future__ import annotations

from collections.abc import Callable

__all__ = ["ErrorLines"]

MAX_LINE = 2000
"""How many bytes of a line are logged."""

MAX_LINES = 100
"""How many lines of an exchange are logged."""


class ErrorLines:
    """Makes lines of what arrives, and passes them to `log`."""

    __slots__ = ("_log", "_rest", "count")

    def __init__(self, log: Callable[[str], None]) -> None:
        self._log = log
        self._rest = b""
        self.count = 0

    def feed(self, data: bytes) -> None:
        """Takes what has arrived."""
        *lines, rest = data.split(b"\n")
        if lines:
            lines[0] = self._rest + lines[0]
            self._rest = b""
            for line in lines:
                self._write(line)
        self._rest = (self._rest + rest)[: MAX_LINE + 1]

    def finish(self) -> None:
        """Passes on what has no end of line, and says how much was left out."""
        rest, self._rest = self._rest, b""
        self._write(rest)
        if self.count > MAX_LINES:
            self._log(f"… and {self.count - MAX_LINES} more lines")
            self.count = 0

    def _write(self, line: bytes) -> None:
        line = line.rstrip()
        if not line:
            return
        self.count += 1
        if self.count <= MAX_LINES:
            text = line[:MAX_LINE].decode("utf-8", "replace")
            text = "".join(char if char.isprintable() or char == "\t" else repr(char)[1:-1] for char in text)
            self._log(text + "…" if len(line) > MAX_LINE else text)
