"""The board: memory that the leader and all its workers share, where each worker notes how many connections it has.

Workers accept from the same sockets. Whoever is woken first would take all that waits, and with few long connections
one worker would do all the work; so a worker lets others go first that have fewer connections. (One socket a worker,
SO_REUSEPORT, spreads by a hash instead: of eight connections all may well end at one of two workers, what waits behind
a worker that hangs or has died waits on, and sockets that go take the connections in their queues with them.)

A slot holds two numbers: the connections, -1 where nobody accepts, and when that was noted, in milliseconds. Each is
written by one process and read by others, as a whole: no locks.
"""

from __future__ import annotations

import mmap
from collections.abc import Callable
from time import monotonic

__all__ = ["Board", "Turn"]

SLOTS = 1024
STALE = 0.8
"""Seconds after which a note does not count: the worker hangs, and must not be waited for."""

GIVE_WAY = 0.004
"""Seconds that a worker lets others go first."""

INSIST = 0.1
"""Seconds that it goes ahead afterwards when nobody did."""


class Board:
    """The shared memory. Made by the leader; workers inherit it."""

    def __init__(self) -> None:
        self._memory = mmap.mmap(-1, SLOTS * 16 + 8)
        self._numbers = memoryview(self._memory).cast("q")

    def __repr__(self) -> str:
        return f"<Board {[self._numbers[2 * slot] for slot in range(self._numbers[2 * SLOTS])]}>"

    def take(self, taken: set[int]) -> int:
        """Returns the first slot that is not among `taken`; the last one is shared when there are too many."""
        slot = next((slot for slot in range(SLOTS - 1) if slot not in taken), SLOTS - 1)
        self.clear(slot)
        # Behind the slots: how many there have been, so that nobody looks at the others.
        self._numbers[2 * SLOTS] = max(self._numbers[2 * SLOTS], slot + 1)
        return slot

    def clear(self, slot: int) -> None:
        """Notes that nobody accepts there."""
        self._numbers[2 * slot] = -1

    def note(self, slot: int, conns: int, now: float) -> None:
        """Notes how many connections a worker has."""
        self._numbers[2 * slot + 1] = int(now * 1000)
        self._numbers[2 * slot] = conns

    def least_of_others(self, slot: int, now: float) -> int:
        """The fewest connections that another worker has; -1 when there is no other."""
        numbers = self._numbers
        oldest = int((now - STALE) * 1000)
        least = -1
        for other in range(self._numbers[2 * SLOTS]):
            conns = numbers[2 * other]
            if (
                conns >= 0
                and other != slot
                and (conns < least or least < 0)
                and numbers[2 * other + 1] >= oldest
            ):
                least = conns
        return least


class Turn:
    """Says, in a worker, whether it should accept now. `count` returns how many connections it has."""

    def __init__(self, board: Board, slot: int, count: Callable[[], int]) -> None:
        self.board = board
        self.slot = slot
        self.count = count
        self.open = False
        """Whether this worker has begun to accept, and has not ended."""
        self.waiting = False
        """The worker is not ready yet; what comes waits in the queue, for others or until it is."""
        self._gave_way = 0.0
        self._insist_until = 0.0

    def note(self) -> None:
        """Notes the connections. Often enough, or the note goes stale."""
        if self.open:
            self.board.note(self.slot, self.count(), monotonic())

    def close(self) -> None:
        """Accepts no more."""
        self.open = False
        self.board.clear(self.slot)

    def __call__(self) -> bool:
        """True when no other worker has fewer connections, or those that have do not come forward."""
        now = monotonic()
        mine = self.count()
        if not self.open:
            return not self.waiting
        self.board.note(self.slot, mine, now)
        least = self.board.least_of_others(self.slot, now)
        if least < 0 or mine <= least or now < self._insist_until:
            self._gave_way = 0.0
            return True
        if not self._gave_way:
            self._gave_way = now
        elif now - self._gave_way >= GIVE_WAY:
            self._gave_way = 0.0
            self._insist_until = now + INSIST
            return True
        return False
