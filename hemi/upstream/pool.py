"""Connections to a node, and those of them that are idle.

A pool holds idle connections only. How many may be in use is the node's `max_conns`, and waiting for one is
done in the roster's queue, before a node is chosen. Pure of clocks: `now` is passed in.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from hemi.upstream.dial import Dialed
    from hemi.upstream.node import Node

__all__ = ["Conn", "Limits", "Pool"]


class Conn:
    """A connection to a node. Protocols subclass it with what they keep from one exchange to the next.

    `born` is when it was made (monotonic seconds), `uses` counts the leases that it was given to.
    """

    __slots__ = ("born", "channel", "idle_since", "node", "uses")

    is_shared = False
    """Whether it carries several exchanges at a time, or is the place of one of them: see hemi.upstream.sharedpool."""

    def __init__(self, node: Node, channel: Dialed, now: float) -> None:
        self.node = node
        self.channel = channel
        self.born = now
        self.idle_since = now
        self.uses = 1

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.node.key} uses={self.uses}>"

    @property
    def reused(self) -> bool:
        """Whether somebody used it before: then it may turn out dead when it is written to."""
        return self.uses > 1

    def close(self) -> None:
        """Closes the connection. Idempotent."""
        self.channel.close()
        channels = self.node.backend.channels
        if self.channel in channels:
            channels.remove(self.channel)
            self.node.conns -= 1


class Limits(NamedTuple):
    """What a connection is kept for: seconds idle, seconds altogether, leases; and how many may be idle."""

    idle_conns: int = 64
    idle_timeout: float = 60.0
    conn_age: float = math.inf
    conn_uses: float = math.inf


class Pool:
    """The idle connections of a node. The one that was used last goes out first: the others can expire."""

    __slots__ = ("idle", "limits")

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self.idle: list[Any] = []

    def __repr__(self) -> str:
        return f"<Pool idle={len(self.idle)}>"

    @property
    def idle_count(self) -> int:
        """How many connections are idle."""
        return len(self.idle)

    def take(self, now: float) -> Any:
        """An idle connection that is alive, or None. Those that are not are closed."""
        idle = self.idle
        while idle:
            conn = idle.pop()
            limits = self.limits
            if (
                now - conn.idle_since < limits.idle_timeout
                and now - conn.born < limits.conn_age
                and conn.channel.is_quiet()
            ):
                conn.uses += 1
                return conn
            conn.close()
        return None

    def give_back(self, conn: Any, now: float) -> None:
        """Keeps a connection for the next one, or closes it when it has served enough."""
        limits = self.limits
        if conn.uses >= limits.conn_uses or now - conn.born >= limits.conn_age:
            conn.close()
            return
        conn.idle_since = now
        conn.channel.deadline = math.inf
        self.idle.append(conn)
        if len(self.idle) > limits.idle_conns:
            self.idle.pop(0).close()

    def sweep(self, now: float) -> None:
        """Closes what has been idle for too long, is too old, or was closed by the node."""
        if not self.idle:
            return
        limits = self.limits
        kept = []
        for conn in self.idle:
            if (
                now - conn.idle_since < limits.idle_timeout
                and now - conn.born < limits.conn_age
                and conn.channel.is_quiet()
            ):
                kept.append(conn)
            else:
                conn.close()
        self.idle = kept

    def clear(self) -> None:
        """Closes all."""
        idle, self.idle = self.idle, []
        for conn in idle:
            conn.close()
