"""What a peer may do that costs us more than it: a budget for cheap frames, and one for streams that come to nothing.

Every frame that brings no request and no content costs one (PING, SETTINGS, PRIORITY, WINDOW_UPDATE, empty DATA,
unknown ones; CVE-2019-9511 to 9518), what is served and sent pays in, and so does time. Streams that end by
RST_STREAM before they were answered are counted alike, whether the client sends it (rapid reset, CVE-2023-44487) or
makes us send it by an error (MadeYouReset, CVE-2025-8671).
"""

from __future__ import annotations

from time import monotonic
from typing import TYPE_CHECKING

from hemi.web.h2.errors import ENHANCE_YOUR_CALM, ConnectionFault

if TYPE_CHECKING:
    from hemi.web.h2.writer import Writer

FRAMES = 1000
FRAMES_PER_SECOND = 50
"""Frames that bring nothing, at once and by the second."""

PIECE_PAYS = 1024
"""For how many bytes that we have sent the client may send such a frame more."""


class Budget:
    """So many at once, and so many a second; `left` may be written to directly, it is settled when it runs out."""

    __slots__ = ("_since", "left", "most", "per_second")

    def __init__(self, most: int, per_second: float, now: float) -> None:
        self.most = most
        self.per_second = per_second
        self.left = most
        self._since = now

    def __repr__(self) -> str:
        return f"<Budget {self.left} of {self.most}>"

    def is_spent(self, now: float) -> bool:
        """Looks, when nothing is left, whether time has paid for it."""
        if self.left > self.most:
            self.left = self.most
        if self.left < 0:
            paid = int((now - self._since) * self.per_second)
            self._since = now
            self.left = min(self.left + paid, self.most)
        return self.left < 0


class Calm:
    """Both budgets of a connection: of `frames` that bring nothing, and of `resets`, by which streams come to nothing.

    `frames.left` and `resets.left` may be paid into directly.
    """

    __slots__ = ("_paid", "_writer", "frames", "resets")

    def __init__(self, writer: Writer, most_resets: int, now: float) -> None:
        self.frames = Budget(FRAMES, FRAMES_PER_SECOND, now)
        self.resets = Budget(most_resets, most_resets / 10, now)
        self._writer = writer
        self._paid = 0

    def __repr__(self) -> str:
        return f"<Calm frames={self.frames.left} resets={self.resets.left}>"

    def count_reset(self) -> None:
        """Takes one for a stream that comes to nothing. Raises ConnectionFault."""
        self.resets.left -= 1
        if self.resets.left < 0 and self.resets.is_spent(monotonic()):
            raise ConnectionFault(ENHANCE_YOUR_CALM, "too many streams end by a reset")

    def suspect(self, what: str) -> None:
        """Takes one for a frame that brings nothing. Raises ConnectionFault."""
        self.frames.left -= 1
        if self.frames.left < 0:
            self._settle(what)

    def _settle(self, what: str) -> None:
        """Lets what was sent pay, too: each piece may bring updates of two windows."""
        delivered = self._writer.delivered
        self.frames.left += (delivered - self._paid) // PIECE_PAYS
        self._paid = delivered
        if self.frames.is_spent(monotonic()):
            raise ConnectionFault(ENHANCE_YOUR_CALM, f"a flood of frames that bring nothing ({what})")
