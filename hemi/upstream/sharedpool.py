"""Connections to a node that carry several exchanges at a time, and the way to get a place on one.

A protocol's connection has the verbs of `Shared`. What a lease gets of it is a stream, with the verbs of
`hemi.upstream.pool.Conn`: given back when its exchange has ended well, closed when it has not. Connections that carry
one exchange at a time may be in the same pool: a node may speak both kinds.

Laws of this module:
- Whoever finds no room waits for a connection that is being opened if that will have room: a hundred exchanges that
  begin at once open one connection, not a hundred.
- A connection that nobody shall use any more (`drain`) stays until its last exchange has ended.
"""

from __future__ import annotations

from collections.abc import Callable
from time import monotonic
from typing import Any, Protocol

from gevent.event import AsyncResult

from hemi.upstream.errors import DialFailed
from hemi.upstream.pool import Limits, Pool

__all__ = ["Shared", "SharedPool"]


class Shared(Protocol):
    """What a pool asks of a connection. `count` is how many streams it carries now, `width` how many it may carry,
    `uses` how many it has carried, `idle_since` when it became idle (monotonic seconds)."""

    is_shared: bool
    born: float
    count: int
    draining: bool
    idle_since: float
    uses: int
    width: int

    def open_stream(self) -> Any:
        """A place on it, which counts from now on."""
        ...

    def drain(self) -> None:
        """Has no new streams any more, and ends with the last one."""
        ...

    def look_after(self, now: float) -> None:
        """Finds out whether the peer still lives."""
        ...


class _Dial:
    """A connection that is being opened. `places` are those that nobody waits for yet."""

    __slots__ = ("places", "result")

    def __init__(self, places: int) -> None:
        self.places = places
        self.result: AsyncResult[None] = AsyncResult()


class SharedPool(Pool):
    """The shared connections of a node; in `idle`, those of the other kind."""

    __slots__ = ("_dials", "_width", "conns")

    def __init__(self, limits: Limits, width: int) -> None:
        Pool.__init__(self, limits)
        self.conns: list[Shared] = []
        self._dials: list[_Dial] = []
        self._width = width  # of the next connection, as far as can be known

    def __repr__(self) -> str:
        return f"<SharedPool conns={len(self.conns)} streams={sum(conn.count for conn in self.conns)}>"

    @property
    def idle_count(self) -> int:
        """How many connections carry nothing."""
        return len(self.idle) + sum(not conn.count for conn in self.conns)

    def take(self, now: float) -> Any:
        """A stream on a connection that has room, or None. What is too old gets no new ones."""
        for conn in self.conns:
            if conn.count < conn.width and not conn.draining:
                if now - conn.born < self.limits.conn_age and conn.uses < self.limits.conn_uses:
                    return conn.open_stream()
                conn.drain()
                return self.take(now)
        return Pool.take(self, now) if self.idle else None

    def open(self, dial: Callable[[], Any], deadline: float) -> Any:
        """A stream on a connection that has room by now or is being opened, or else on a new one by `dial`, which may
        also return a connection of the other kind. Raises DialFailed."""
        while True:
            stream = self.take(monotonic())
            if stream is not None:
                return stream
            pending = next((one for one in self._dials if one.places > 0), None)
            if pending is None:
                return self._dial(dial)
            pending.places -= 1
            self._wait_for(pending, deadline)

    def _wait_for(self, pending: _Dial, deadline: float) -> None:
        """Waits until a connection is open, or somebody else has to open one."""
        seconds = deadline - monotonic()
        pending.result.wait(max(0.0, min(seconds, 1e6)))
        if not pending.result.ready():
            raise DialFailed("no answer in time", phase="connect", timed_out=True)
        if not pending.result.successful():
            raise pending.result.exception  # type: ignore[misc]

    def _dial(self, dial: Callable[[], Any]) -> Any:
        pending = _Dial(self._width - 1)
        self._dials.append(pending)
        try:
            conn = dial()
        except DialFailed as failure:
            self._dials.remove(pending)
            pending.result.set_exception(failure)
            raise
        except BaseException:  # whoever dialled is stopped: the others try by themselves
            self._dials.remove(pending)
            pending.result.set(None)
            raise
        self._dials.remove(pending)
        pending.result.set(None)
        if not conn.is_shared:
            self._width = 1
            return conn
        self._width = max(conn.width, 1)
        self.conns.append(conn)
        return conn.open_stream()

    def discard(self, conn: Shared) -> None:
        """Forgets a connection that has ended. Idempotent."""
        if conn in self.conns:
            self.conns.remove(conn)

    def give_back(self, conn: Any, now: float) -> None:
        """Takes the place of a stream back, or keeps a connection of the other kind."""
        if conn.is_shared:
            conn.close()
        else:
            Pool.give_back(self, conn, now)

    def sweep(self, now: float) -> None:
        """Ends what has been idle for too long or is too old, and looks after the others."""
        Pool.sweep(self, now)
        limits = self.limits
        for conn in list(self.conns):
            if not conn.count and (
                now - conn.idle_since >= limits.idle_timeout or now - conn.born >= limits.conn_age
            ):
                conn.drain()
            else:
                conn.look_after(now)

    def clear(self) -> None:
        """Ends all that are idle, and the others with their last exchange."""
        Pool.clear(self)
        for conn in list(self.conns):
            conn.drain()
