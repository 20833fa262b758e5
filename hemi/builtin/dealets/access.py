"""The dealet `access`: which clients may connect, or send datagrams. The handlet of
the same name says it in the same words."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from hemi.builtin.handlets.access import AccessLine, Specific, Who, by_order
from hemi.component import prop
from hemi.net.conn import TCPXConn
from hemi.net.dealet import Dealet
from hemi.net.udpconn import UDPXConn

__all__ = ["AccessDealet"]


class AccessDealet(Dealet, sign="access"):
    """Closes the connections of clients that may not come in, and declines all others, so that the next dealet or case
    deals with them.

    Say either `allow` and `deny`, of which the most specific entry decides (whoever is in neither may come in, unless
    there is an `allow`), or `order`, of which the first line that fits decides (whom no line fits may come in).
    """

    transports = ("tcpx", "udpx")

    allow: list[Who] = prop(
        [], 'Who may come in: addresses, networks, "unix" (Unix domain sockets), "all".', inherit=False
    )
    deny: list[Who] = prop([], "Who may not.", inherit=False)
    order: list[AccessLine] = prop(
        [],
        'Lines such as "allow 10.0.0.0/8", "deny if $server_name == \\"old.example.com\\"", "deny all".',
        inherit=False,
    )

    def check(self) -> Iterator[str | tuple[str, str]]:
        """The ways to say it do not mix, and an entry must not be on both lists."""
        if self.order and (self.allow or self.deny):
            yield "must have either order, or allow and deny"
        if not (self.order or self.allow or self.deny):
            yield "must have order, allow or deny"
        for who in self.deny:
            if who in self.allow:
                yield "deny", f'must not have "{who}", which is allowed as well'

    def prepare(self) -> None:
        """Builds the tables."""
        self._allows: Callable[[Any], bool] = (
            by_order(self.order) if self.order else Specific(self.allow, self.deny).allows
        )

    def deal(self, conn: TCPXConn | UDPXConn) -> bool:
        """Declines when the client may go on."""
        if self._allows(conn):
            return False
        conn.refuse(403, "it may not come in")
        if not conn.is_datagram:  # of these the gate tells, sparingly: sources can be forged
            self.stage.log.info("access", f"{conn.src_host} was refused at {conn.line()}")
        return True
