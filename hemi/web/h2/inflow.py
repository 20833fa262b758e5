"""Flow control of what comes in: how much a peer may still send, and when it is told that it may send more.

A window is half used before an update goes out, so that there are few of them. It doubles, up to a limit, when whoever
reads finds nothing although much has come since the last update: then the window, not the peer or the reader, holds
the transfer up. A reader that is slow never makes it grow (RFC 9113 §5.2, §6.9).
"""

from __future__ import annotations


class Inflow:
    """The window of a stream or of the connection, in bytes. `left` is what the peer may still send."""

    __slots__ = ("left", "most", "taken", "window")

    def __init__(self, window: int, most: int) -> None:
        self.window = window
        self.most = most
        self.left = window
        self.taken = 0
        """What was read since the last update."""

    def __repr__(self) -> str:
        return f"<Inflow left={self.left} of {self.window}>"

    def receive(self, size: int) -> bool:
        """Notes what has come. False when it was more than allowed."""
        self.left -= size
        return self.left >= 0

    def take(self, size: int) -> int:
        """Notes what was read. Returns by how much the window is opened now; 0 for later."""
        self.taken = taken = self.taken + size
        if taken * 2 < self.window:
            return 0
        self.taken = 0
        self.left += taken
        return taken

    def starve(self) -> int:
        """Notes that the reader waits. Returns by how much the window is opened now."""
        grow = 0
        if self.left * 2 <= self.window < self.most:
            grow = min(self.window, self.most - self.window)
            self.window += grow
        grow += self.taken
        self.taken = 0
        self.left += grow
        return grow
