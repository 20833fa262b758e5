"""The hub watchdog: an OS thread that notices when the hub does not run, and who keeps it from running.

One greenlet that computes, or calls something that blocks, stops all the others. The thread, which the system runs
all the same, looks whether the hub still counts; when it does not, the running stack is the culprit's. The leader hears
it over the lifeline, logs it, and kills the worker in the end; heartbeats tell it "blocked" from "dead". A call that
never gives up the interpreter's lock stops this thread as well: then the leader hears nothing, which it takes for dead.

The thread also ends the process when the leader has gone and the hub, which should notice, is blocked.
"""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Callable
from time import monotonic
from types import FrameType
from typing import Any

from gevent import get_hub
from gevent.monkey import get_original

from hemi.errors import EXIT_STOP
from hemi.procmgr.lifeline import Lifeline

__all__ = ["Watchdog"]

TICK = 0.25
"""Seconds between two counts of the hub."""

BEAT = 1.0
"""Seconds between two heartbeats."""

NOTICE = 2.0
"""Seconds after which a block is told, or half of hang_timeout where that is less."""

ORPHAN = 1.0
"""Seconds that a blocked process lives on after its leader."""

MOST_STACK = 48 << 10
"""Bytes of a stack that are told: a datagram must hold it."""

_sleep: Callable[[float], None] = get_original("time", "sleep")
_start_thread: Any = get_original("_thread", "start_new_thread")
_thread_ident: Callable[[], int] = get_original("_thread", "get_ident")


class Watchdog:
    """`figures()` is called in the hub; what it returned last goes with each heartbeat."""

    def __init__(self, lifeline: Lifeline, figures: Callable[[], dict[str, Any]]) -> None:
        self.lifeline = lifeline
        self.figures = figures
        self.notice = NOTICE
        self.log: Callable[[str], None] | None = None
        """The error log of the stage, so that the culprit is named there too."""
        self._ticks = 0
        self._latest: dict[str, Any] = {}
        self._timer: Any = None
        self._main = 0

    def start(self) -> None:
        """Begins to watch the hub of the calling thread."""
        self._main = _thread_ident()
        self._timer = get_hub().loop.timer(TICK, TICK, ref=False)
        self._timer.start(self._tick)
        _start_thread(self._watch, ())

    def beat(self) -> None:
        """Sends a heartbeat with fresh figures now."""
        self._latest = self.figures()
        self.lifeline.tell({"beat": self._latest})

    def set_limit(self, hang_timeout: float) -> None:
        """Sees to it that a block is told before the worker is killed for it."""
        self.notice = min(NOTICE, hang_timeout / 2) if hang_timeout else NOTICE

    def _tick(self) -> None:
        self._ticks += 1
        self._latest = self.figures()

    # In the thread; nothing in here may touch the hub.

    def _watch(self) -> None:
        seen, since = -1, monotonic()
        next_beat, next_notice = 0.0, self.notice
        orphan_since = 0.0
        while True:
            _sleep(TICK / 2)
            now = monotonic()
            if self._ticks != seen:
                seen, since, next_notice = self._ticks, now, self.notice
                if now >= next_beat:
                    next_beat = now + BEAT
                    self.lifeline.tell({"beat": self._latest})
            elif now - since >= TICK * 3 and now >= next_beat:
                next_beat = now + BEAT
                stack = ""
                if now - since >= next_notice:
                    next_notice *= 4
                    stack = self._stack()
                self._report(now - since, stack)
            if self.lifeline.is_cut():
                orphan_since = orphan_since or now
                if now - orphan_since > ORPHAN:
                    os._exit(EXIT_STOP)

    def _report(self, seconds: float, stack: str) -> None:
        self.lifeline.tell({"blocked": round(seconds, 2), "stack": stack})
        if stack and self.log is not None:
            self.log(f"the hub has been blocked for {seconds:.1f} s by:\n{stack}")

    def _stack(self) -> str:
        frame: FrameType | None = sys._current_frames().get(self._main)
        if frame is None:
            return ""
        lines = traceback.format_stack(frame)
        text = "".join(lines)
        while len(text.encode("utf-8", "replace")) > MOST_STACK and len(lines) > 1:
            del lines[0]  # the innermost calls tell the most
            text = "  …\n" + "".join(lines)
        return text
