"""Routers: what takes connections, and sessions of datagrams, to where they belong. The kind itself; the ready-made
ones are in `hemi.builtin.routers`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar

from hemi.component import Component, prop
from hemi.net.case import Case
from hemi.net.conn import NetConn
from hemi.net.dealet import Dealet
from hemi.net.variables import CASE_SCOPE
from hemi.values import Children, Named


class Router(Component, kind="routers"):
    """Tries its cases in order, for each connection."""

    scope = CASE_SCOPE
    transport: ClassVar[str] = "tcpx"

    dealets: Named[Dealet] = prop({}, "Dealets that several cases name.", inherit=False)
    cases: Children[Case] = prop(
        [], "What happens to which connections; the first that deals.", inherit=False
    )

    def check_dealets(self) -> Iterator[str | tuple[str, str]]:
        """All dealets must be able to deal with what comes here."""
        for dealet in [*self.dealets.values(), *(each for case in self.cases for each in case.dealets)]:
            if self.transport not in dealet.transports:
                yield "cases", f"must not have {dealet.sign}, which is not for {self.sign}"

    def route(self, conn: NetConn) -> bool:
        """Has the first case deal with the connection that can; False when none does."""
        for number, case in enumerate(self.cases, 1):
            if case.if_ is None or case.if_(conn):
                for dealet in case.dealets:
                    conn.case_number = number
                    if dealet.deal(conn):
                        return True
        conn.case_number = 0
        return False
