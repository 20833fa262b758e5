"""Routers: what takes connections to where they belong. The kind itself; the ready-made ones are in
`hemi.builtin.routers`."""

from __future__ import annotations

from hemi.component import Component, prop
from hemi.net.case import Case
from hemi.net.conn import TCPXConn
from hemi.net.dealet import Dealet
from hemi.net.variables import CASE_SCOPE
from hemi.values import Children, Named


class Router(Component, kind="routers"):
    """Tries its cases in order, for each connection."""

    scope = CASE_SCOPE

    dealets: Named[Dealet] = prop({}, "Dealets that several cases name.", inherit=False)
    cases: Children[Case] = prop(
        [], "What happens to which connections; the first that deals.", inherit=False
    )

    def route(self, conn: TCPXConn) -> bool:
        """Has the first case deal with the connection that can; False when none does."""
        for number, case in enumerate(self.cases, 1):
            if case.if_ is None or case.if_(conn):
                for dealet in case.dealets:
                    conn.case_number = number
                    if dealet.deal(conn):
                        return True
        conn.case_number = 0
        return False
