"""Requests that were answered before their end. They may come to it, within bounds: not all clients understand a reset
behind a whole answer."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hemi.web.h2.content import Content2
from hemi.web.h2.errors import NO_ERROR
from hemi.web.h2.frames import reset_frame

if TYPE_CHECKING:
    from hemi.web.h2.conn import Server2Conn
    from hemi.web.h2.stream import Server2Stream

DROP_MOST = 1 << 20
"""How much of a request that was answered already is taken and dropped, in bytes."""


class Leftovers:
    """Those of a connection; `left` has how much may still come of each, by its stream."""

    __slots__ = ("_conn", "left")

    def __init__(self, conn: Server2Conn) -> None:
        self._conn = conn
        self.left: dict[int, int] = {}

    def __repr__(self) -> str:
        return f"<Leftovers {self.left}>"

    def take(self, stream: Server2Stream, content: Content2) -> bool:
        """Lets a request come to its end; False when too much is left, of it or of others."""
        conn = self._conn
        missing = content.size - content.arrived if content.size >= 0 else DROP_MOST
        if content.expect or stream.tunnel or missing > DROP_MOST or len(self.left) >= conn.most_streams:
            return False
        self.left[stream.sid] = DROP_MOST
        held = sum(map(len, content.chunks)) + content.inflow.taken
        if held:
            conn.send_window(stream.sid, held)
        return True

    def drop(self, sid: int, size: int, ended: bool) -> None:
        """Takes a piece of such a request, which is dropped."""
        conn = self._conn
        left = self.left.pop(sid) - size
        if ended:
            return
        if left > 0:
            self.left[sid] = left
            if size:
                conn.send_window(sid, size)
        else:
            conn.remember_reset(sid)
            conn.writer.push(reset_frame(sid, NO_ERROR))
