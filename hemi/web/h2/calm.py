"""What a peer may do that costs us more than it: a budget for cheap frames, and one for streams that come to nothing.

Every frame that brings no request and no content costs one (PING, SETTINGS, PRIORITY, WINDOW_UPDATE, empty DATA,
unknown ones; CVE-2019-9511 to 9518), what is served and sent pays in, and so does time. Streams that end by
RST_STREAM before they were answered are counted alike, whether the client sends it (rapid reset, CVE-2023-44487) or
makes us send it by an error (MadeYouReset, CVE-2025-8671).
"""

from __future__ import annotations


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
