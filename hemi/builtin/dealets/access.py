"""The dealet `access`: which clients may connect, or send datagrams. The handlet of
the same name says it in the same words."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

from hemi.builtin.handlets.access import AccessLists
from hemi.component import prop
from hemi.net.conn import NetConn
from hemi.net.dealet import Dealet
from hemi.values import Condition

__all__ = ["AccessDealet"]


class AccessDealet(AccessLists, Dealet, sign="access"):
    """Closes the connections of clients that may not come in, and declines all others, so that the next dealet or case
    deals with them.

    Say either `allow` and `deny`, of which the most specific entry decides (whoever is in neither may come in, unless
    there is an `allow`), or `order`, of which the first line that fits decides (whom no line fits may come in).
    """

    transports = ("tcpx", "udpx")

    condition: Condition | None = prop(None, "What else must hold, or may hold instead.", inherit=False)
    satisfy: Literal["all", "any"] = prop(
        "all", "Whether a client needs both the right address and the condition, or either.", inherit=False
    )

    def check(self) -> Iterator[str | tuple[str, str]]:
        """Either way in must be there."""
        yield from AccessLists.check(self)
        if self.satisfy == "any" and self.condition is None:
            yield "satisfy", '"any" needs a condition, the other way in'

    def deal(self, conn: NetConn) -> bool:
        """Declines when the client may go on."""
        allowed = self._allows(conn)
        if self.condition is not None and allowed != (self.satisfy == "any"):
            allowed = self.condition(conn)  # the address alone does not decide
        if allowed:
            return False
        conn.refuse(403, "it may not come in")
        if not conn.is_datagram:  # of these the gate tells, sparingly: sources can be forged
            self.stage.log.info("access", f"{conn.src_host} was refused at {conn.line()}")
        return True
