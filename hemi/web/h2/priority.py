"""Priorities: whose turn it is among the streams that have something to send (RFC 9218).

The tree of RFC 7540 is not used (RFC 9113 §5.3); clients are told so by SETTINGS_NO_RFC7540_PRIORITIES.
"""

from __future__ import annotations

import re
from collections import deque
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from hemi.web.h2.stream import Server2Stream

DEFAULT_URGENCY = 3
LEVELS = 8

_URGENCY = re.compile(rb"(?:^|,)[ \t]*u[ \t]*=[ \t]*([0-7])[ \t]*(?=[;,]|$)")
_INCREMENTAL = re.compile(rb"(?:^|,)[ \t]*i[ \t]*(?:=[ \t]*\?([01])[ \t]*)?(?=[;,]|$)")


def parse_priority(value: bytes) -> tuple[int, bool]:
    """Urgency (0 first to 7) and incremental of a Priority field; what is not understood counts as not there.

    Of members that repeat, the last one counts (RFC 8941 §3.2).
    """
    urgencies = _URGENCY.findall(value)
    incrementals = _INCREMENTAL.findall(value)
    urgency = int(urgencies[-1]) if urgencies else DEFAULT_URGENCY
    return urgency, bool(incrementals) and incrementals[-1] != b"0"


class Schedule:
    """The streams that could send now. The most urgent go first; among equals, those that are incremental take turns,
    and the others send all they have (RFC 9218 §10)."""

    __slots__ = ("_levels", "size")

    def __init__(self) -> None:
        self._levels: list[deque[Server2Stream]] = [deque() for _ in range(LEVELS)]
        self.size = 0

    def __repr__(self) -> str:
        return f"<Schedule {[len(level) for level in self._levels]}>"

    def add(self, stream: Server2Stream) -> None:
        """Takes a stream in, behind its equals; once."""
        if not stream.queued:
            stream.queued = True
            self.size += 1
            self._levels[stream.urgency].append(stream)

    def first(self) -> Server2Stream | None:
        """Whose turn it is."""
        if self.size:
            for level in self._levels:
                if level:
                    return level[0]
        return None

    def rotate(self, stream: Server2Stream) -> None:
        """Ends the turn of the first one, if it shares."""
        if stream.incremental:
            self._levels[stream.urgency].rotate(-1)

    def remove(self, stream: Server2Stream) -> None:
        """Lets a stream go that has nothing to send, or may not."""
        if stream.queued:
            stream.queued = False
            self.size -= 1
            level = self._levels[stream.urgency]
            if level[0] is stream:
                level.popleft()
            else:
                level.remove(stream)

    def change(self, stream: Server2Stream, urgency: int, incremental: bool) -> None:
        """Gives a stream another priority, also while it waits."""
        queued = stream.queued
        self.remove(stream)
        stream.urgency, stream.incremental = urgency, incremental
        if queued:
            self.add(stream)
