"""Rates that relayed bytes have to keep. No clock ticks here: who sends asks how long to wait, and waits."""

from __future__ import annotations

from time import monotonic

from hemi.library.tokenbucket import TokenBuckets

__all__ = ["Pace"]

LEAST_PIECE = 1024
MOST_PIECE = 262144
PIECES = 4
"""How many pieces there should be in a second: more would cost more, fewer would look like hiccups."""


class Pace:
    """So many bytes a second, with others of the same key in the same buckets.

    `piece` is how many bytes to send at once at the most.
    """

    __slots__ = ("_buckets", "_key", "piece")

    def __init__(self, buckets: TokenBuckets, key: str) -> None:
        self._buckets = buckets
        self._key = key
        self.piece = min(max(int(buckets.rate / PIECES), LEAST_PIECE), MOST_PIECE)

    def __repr__(self) -> str:
        return f"<Pace {self._buckets.rate:g} bytes/s for {self._key!r}>"

    @classmethod
    def alone(cls, rate: float, burst: float = 0) -> Pace:
        """A pace that nothing else shares: `rate` bytes a second, after `burst` bytes (those of a second)."""
        return cls(TokenBuckets(rate, burst or rate, 1), "")

    def take(self, size: int) -> float:
        """Takes the right to send some bytes; returns after how many seconds it counts."""
        return self._buckets.take(self._key, monotonic(), size, max_wait=float("inf")).wait
