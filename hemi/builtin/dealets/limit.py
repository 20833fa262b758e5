"""The dealet `limit`: how many new connections per time, and how many at the same time, for each key.

What is counted is counted in the memory of one worker, and a reload counts from the beginning; the table is bounded
(see `hemi.library.tokenbucket`).
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from functools import partial
from time import monotonic
from typing import Annotated

from hemi.builtin.handlets.limit import LONGEST_KEY, Rate, RateKind
from hemi.component import prop
from hemi.library.sparing import Sparing
from hemi.library.tokenbucket import ENTRY_SIZE, TokenBuckets
from hemi.net.conn import TCPXConn
from hemi.net.dealet import Dealet
from hemi.net.udpconn import UDPXConn
from hemi.peers import client_of
from hemi.values import Condition, Size, Template

__all__ = ["LimitDealet"]


class LimitDealet(Dealet, sign="limit"):
    """Closes connections beyond a limit, and declines all others, so that the next dealet or case deals with them. For
    datagrams, a connection is a session, and beyond the limit they are dropped.

    New connections are counted by token buckets: `connections: 100/m` lets 100 come at once, and one more every 0.6
    seconds.
    """

    transports = ("tcpx", "udpx")

    key: Template = prop(
        "$src_host",
        "What is counted together, such as $server_name; IPv6 clients by their /64. What has an empty key is not "
        "limited.",
        inherit=False,
    )
    connections: Annotated[Rate, RateKind()] | None = prop(
        None, "How many new connections per time.", inherit=False
    )
    burst: int | None = prop(
        None,
        "How many of these may come at once; as many as connections says when missing.",
        least=1,
        inherit=False,
    )
    concurrent: int | None = prop(
        None, "How many connections may be open at the same time.", least=1, inherit=False
    )
    exempt: Condition | None = prop(None, "Which connections are not limited.", inherit=False)
    memory: Size = prop(
        "16M", "How large the table of keys may get, in each worker.", least="64K", inherit=False
    )

    def check(self) -> Iterator[str | tuple[str, str]]:
        """There must be a limit, and what belongs to it must not stand alone."""
        if self.connections is None and self.concurrent is None:
            yield "must have connections or concurrent"
        if self.connections is None and self.burst is not None:
            yield "burst", "needs connections"
        if self.key.constant == "":
            yield "key", "must not be empty"

    def prepare(self) -> None:
        """Makes the tables."""
        self._buckets: TokenBuckets | None = None
        if self.connections is not None:
            rate, capacity = self.connections.amount / self.connections.seconds, self.connections.amount
            self._buckets = TokenBuckets(rate, self.burst or capacity, self.memory // ENTRY_SIZE)
        self._open: dict[str, int] = {}
        # A connection that several cases bring here counts once.
        self._counted: set[TCPXConn | UDPXConn] = set()
        self._by_client = self.key.text == "$src_host"
        self._logging = Sparing()

    def deal(self, conn: TCPXConn | UDPXConn) -> bool:
        """Declines when the connection is within the limits."""
        if conn in self._counted or (self.exempt is not None and self.exempt(conn)):
            return False
        key = self._key_of(conn)
        if not key:
            return False
        if self.concurrent is not None and self._open.get(key, 0) >= self.concurrent:
            return self._refuse(conn, key, f"{self.concurrent} connections at the same time")
        if self._buckets is not None and not self._buckets.take(key, monotonic()).allowed:
            return self._refuse(conn, key, f"{self.connections.text if self.connections else ''} connections")
        self._counted.add(conn)
        self._open[key] = self._open.get(key, 0) + 1
        conn.at_end(partial(self._leave, conn, key))
        return False

    def _key_of(self, conn: TCPXConn | UDPXConn) -> str:
        key = client_of(conn.src_host) if self._by_client else self.key(conn)
        if len(key) > LONGEST_KEY:
            key = hashlib.blake2b(key.encode("utf-8", "surrogateescape"), digest_size=16).hexdigest()
        return key

    def _leave(self, conn: TCPXConn | UDPXConn, key: str) -> None:
        self._counted.discard(conn)
        left = self._open[key] - 1
        if left:
            self._open[key] = left
        else:
            del self._open[key]

    def _refuse(self, conn: TCPXConn | UDPXConn, key: str, limit: str) -> bool:
        conn.refuse(429, f"beyond {limit}")
        more = self._logging.admit(monotonic())
        if more is not None:
            also = f", and {more} others before" if more else ""
            self.stage.log.warning("limit", f"{key!r} is beyond {limit} at {conn.line()}{also}")
        return True
