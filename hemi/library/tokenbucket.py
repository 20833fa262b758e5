"""Token buckets by key, with one number for each: the moment at which the bucket will be full again.

A bucket of `capacity` tokens is filled at `rate` tokens a second. What has been taken is what must still flow in, so
the moment of fullness says it all (as the "theoretical arrival time" of ITU-T I.371 does), and a bucket that is full
again needs no entry. Nothing here looks at a clock: `now` is passed in, in seconds.

The table is bounded. When it is full, the entry that was used longest ago goes, which is a full bucket unless somebody
comes with more keys than the table holds within the time that a bucket takes to fill: `evicted` counts those.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import NamedTuple

ENTRY_SIZE = 320
"""Bytes of an entry, with some reserve: 204 were measured with keys of 40 characters."""


class Taken(NamedTuple):
    """What came of taking: whether it is allowed, after how many seconds of waiting, how many whole tokens are left,
    and in how many seconds the bucket will be full. When it is refused, `wait` is when another try may succeed."""

    allowed: bool
    wait: float
    left: int
    full_in: float


class TokenBuckets:
    """Buckets of the same rate and capacity. `most` is how many keys are remembered."""

    __slots__ = ("_full_at", "_span", "capacity", "evicted", "most", "rate")

    def __init__(self, rate: float, capacity: float, most: int) -> None:
        self.rate = rate
        self.capacity = capacity
        self.most = most
        self.evicted = 0
        self._span = capacity / rate  # seconds from empty to full
        self._full_at: OrderedDict[str, float] = OrderedDict()

    def __len__(self) -> int:
        return len(self._full_at)

    def take(self, key: str, now: float, amount: float = 1.0, max_wait: float = 0.0) -> Taken:
        """Takes an amount of tokens, if that needs no longer wait than `max_wait` seconds.

        Whoever is to wait has taken already: those that come later wait behind.
        """
        table = self._full_at
        before = max(table.get(key, now) - now, 0.0)  # seconds until the bucket is full
        after = before + amount / self.rate
        wait = after - self._span
        if wait > max_wait + 1e-9:
            return Taken(False, wait - max_wait, self._left(before), before)
        if key in table:
            table.move_to_end(key)
        else:
            self._make_room(now)
        table[key] = now + after
        return Taken(True, max(wait, 0.0), self._left(after), after)

    def _left(self, full_in: float) -> int:
        return max(0, int((self._span - full_in) * self.rate + 1e-6))

    def give_back(self, key: str, amount: float = 1.0) -> None:
        """Puts tokens back that were taken."""
        full_at = self._full_at.get(key)
        if full_at is not None:
            self._full_at[key] = full_at - amount / self.rate

    def _make_room(self, now: float) -> None:
        """Makes room for a new key: the entries that were used longest ago go when they are full, two at a time so
        that the table shrinks again, and one goes anyhow when the table is full."""
        table = self._full_at
        for _ in range(2):
            key = next(iter(table), None)
            if key is None or table[key] > now:
                break
            del table[key]
        if len(table) >= self.most:
            table.popitem(last=False)
            self.evicted += 1
