"""The keeper of a stage's WebSockets: looks at each now and then, and tells all when the stage goes.

One timer for all of them: none has a greenlet or a timer of its own for its pings.
"""

from __future__ import annotations

from time import monotonic
from typing import TYPE_CHECKING, Any, Protocol
from weakref import WeakKeyDictionary

from gevent import get_hub

from hemi.sockets import SWEEP_INTERVAL

if TYPE_CHECKING:
    from hemi.stage import Stage
    from hemi.web.websocket.connection import WebSocket
    from hemi.web.websocket.frames import Failure

__all__ = ["Keeper", "drain", "keeper_of"]

FAREWELL = 3.0
"""Seconds before the end of a drain at which the WebSockets of a reloaded stage are told that they end (1001)."""

SPREAD = 2000
"""How many are told that they end at one look: their clients all come back at once otherwise."""

_keepers: WeakKeyDictionary[Stage, Keeper] = WeakKeyDictionary()


def keeper_of(stage: Stage) -> Keeper:
    """The keeper of a stage, made when it is first asked for."""
    keeper = _keepers.get(stage)
    if keeper is None:
        keeper = _keepers[stage] = Keeper(stage)
    return keeper


def drain(stage: Stage, deadline: float, at_once: bool) -> None:
    """Tells the WebSockets of a stage that it ends: at once when nothing follows it in this process, so that clients
    connect to another one; else (a reload) they live on until shortly before `deadline` (monotonic seconds)."""
    keeper = _keepers.get(stage)
    if keeper is not None:
        keeper.drain(deadline, at_once)


class Kept(Protocol):
    """What a keeper looks after: a WebSocket that is served here, or passed on. `closed` says that it ends, `due` when
    to look at it (monotonic seconds)."""

    closed: bool
    due: float

    def look(self, now: float) -> None:
        """Sees to what time brings. Never waits."""

    def go_away(self, code: int, reason: str) -> None:
        """Says that it ends. Never waits."""


class Keeper:
    """See above. `until` is when the WebSockets are told that the stage ends."""

    def __init__(self, stage: Stage) -> None:
        self._log = stage.log
        self.members: set[Kept] = set()
        self.until: float | None = None
        self._timer: Any = None

    def __repr__(self) -> str:
        return f"<Keeper members={len(self.members)}>"

    def add(self, ws: Kept) -> None:
        """Looks after a WebSocket from now on."""
        self.members.add(ws)
        if self._timer is None:
            self._timer = get_hub().loop.timer(SWEEP_INTERVAL, SWEEP_INTERVAL)
            self._timer.start(self._tick)

    def remove(self, ws: Kept) -> None:
        """Looks after it no more. Idempotent."""
        self.members.discard(ws)
        if not self.members and self._timer is not None:
            self._timer.close()
            self._timer = None

    def _tick(self) -> None:
        self.tick(monotonic())

    def tick(self, now: float) -> None:
        """Looks at all that are due. Nothing in here waits."""
        if self.until is not None and now >= self.until:
            going = [ws for ws in self.members if not ws.closed][:SPREAD]
            for ws in going:
                ws.go_away(1001, "the server is going away")
        for ws in [ws for ws in self.members if ws.due <= now]:
            ws.look(now)

    def drain(self, deadline: float, at_once: bool) -> None:
        """See `drain` above. What is nearer counts."""
        now = monotonic()
        until = now if at_once else max(now, deadline - max(FAREWELL, (deadline - now) / 10))
        self.until = until if self.until is None else min(self.until, until)
        self.tick(now)

    def note_failure(self, ws: WebSocket, failure: Failure) -> None:
        """Logs what a client did wrong."""
        self.log(ws, f"is ended: {failure}")

    def log(self, ws: WebSocket, what: str) -> None:
        """Logs what an operator may want to know about a WebSocket."""
        req = ws.request
        self._log.info("websocket", f"{req.src_host} at {req.path} {what}")
