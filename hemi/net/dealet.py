"""Dealets: the components that deal with connections. The kind itself; ready-made ones are in
`hemi.builtin.dealets`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hemi.component import Component
from hemi.net.variables import CASE_SCOPE

if TYPE_CHECKING:
    from hemi.net.conn import TCPXConn


class Dealet(Component, kind="dealets", nested=True):
    """Deals with a connection, or declines."""

    scope = CASE_SCOPE

    def deal(self, conn: TCPXConn) -> bool:
        """Deals with the connection to its end and returns True, or returns False to let the next one try.

        Runs in the greenlet of the connection and may block: other connections go on meanwhile. The connection is
        closed afterwards. `conn.taken()` is what was read of it already; an exception is logged.
        """
        raise NotImplementedError
