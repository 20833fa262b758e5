"""Flow control of what comes in: how much a peer may still send, and when it is told that it may send more.

A window is half used before an update goes out, so that there are few of them. It doubles, up to a limit, when half of
it was read within the time of a long round trip by a reader who had to wait: then it may be the window that holds the
transfer up. A reader that is slow never makes it grow, nor does a client (RFC 9113 §5.2, §6.9).
"""

from __future__ import annotations

QUICK = 0.5
"""Seconds: a client far away needs as much window as it sends in such a time."""


class Inflow:
    """The window of a stream or of the connection, in bytes. `left` is what the peer may still send."""

    __slots__ = ("left", "most", "since", "starved", "taken", "window")

    def __init__(self, window: int, most: int) -> None:
        self.window = window
        self.most = most
        self.left = window
        self.taken = 0
        """What was read since the last update."""
        self.since = 0.0
        """When that was (monotonic seconds)."""
        self.starved = False
        """The reader has waited since."""

    def __repr__(self) -> str:
        return f"<Inflow left={self.left} of {self.window}>"

    def receive(self, size: int) -> bool:
        """Notes what has come. False when it was more than allowed."""
        self.left -= size
        return self.left >= 0

    def take(self, size: int, now: float) -> int:
        """Notes what was read. Returns by how much the window is opened now; 0 for later."""
        self.taken = taken = self.taken + size
        if taken * 2 < self.window:
            return 0
        if self.starved and self.window < self.most and now - self.since < QUICK:
            more = min(self.window, self.most - self.window)
            self.window += more
            taken += more
        self.taken = 0
        self.starved = False
        self.since = now
        self.left += taken
        return taken
