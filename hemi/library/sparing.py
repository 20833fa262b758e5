"""Logging sparingly: a flood of whatever is to be logged must not become a flood of lines."""

from __future__ import annotations

__all__ = ["Sparing"]


class Sparing:
    """Says when to log: once a second."""

    def __init__(self) -> None:
        self._due = 0.0
        self._others = 0

    def admit(self, now: float) -> int | None:
        """How many lines were not logged since the last one, or None for one that is not to be logged. `now` is in
        seconds."""
        if now < self._due:
            self._others += 1
            return None
        self._due, others, self._others = now + 1.0, self._others, 0
        return others
