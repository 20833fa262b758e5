"""The dealet `limit`: how many new connections per time, how many at the same time, and how many bytes a second, for
each key.

What is counted is counted in the memory of one worker, and a reload counts from the beginning; the table is bounded
(see `hemi.library.tokenbucket`).
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from functools import partial
from time import monotonic
from typing import Annotated, Any

from hemi.builtin.handlets.limit import LONGEST_KEY, Rate, RateKind
from hemi.component import prop
from hemi.library.sparing import Sparing
from hemi.library.tokenbucket import ENTRY_SIZE, TokenBuckets
from hemi.net.conn import NetConn
from hemi.net.dealet import Dealet
from hemi.net.pace import Pace
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
    bandwidth: Size | None = prop(
        None, "Bytes per second of all the connections together, both directions.", least="256", inherit=False
    )
    bandwidth_up: Size | None = prop(
        None, "Bytes per second that all the clients together may send.", least="256", inherit=False
    )
    bandwidth_down: Size | None = prop(
        None, "Bytes per second that all the clients together may receive.", least="256", inherit=False
    )
    bandwidth_burst: Size | None = prop(
        None, "Bytes that may pass at full speed before that; those of a second when missing.", inherit=False
    )
    exempt: Condition | None = prop(None, "Which connections are not limited.", inherit=False)
    memory: Size = prop(
        "16M", "How large the table of keys may get, in each worker.", least="64K", inherit=False
    )

    def check(self) -> Iterator[str | tuple[str, str]]:
        """There must be a limit, and what belongs to it must not stand alone."""
        limits = (self.connections, self.concurrent, *self._bandwidths())
        if all(limit is None for limit in limits):
            yield "must have connections, concurrent or a bandwidth"
        if self.connections is None and self.burst is not None:
            yield "burst", "needs connections"
        if self.bandwidth_burst is not None and not any(self._bandwidths()):
            yield "bandwidth_burst", "needs a bandwidth"
        if any(self._bandwidths()) and self._is_for_datagrams():
            yield "must have no bandwidth: datagrams beyond it would be lost, not slower"
        if self.key.constant == "":
            yield "key", "must not be empty"

    def _is_for_datagrams(self) -> bool:
        above: Any = self
        while above is not None and not hasattr(above, "transport"):
            above = above.parent
        return above is not None and above.transport == "udpx"

    def _bandwidths(self) -> tuple[int | None, int | None, int | None]:
        return self.bandwidth, self.bandwidth_up, self.bandwidth_down

    def prepare(self) -> None:
        """Makes the tables."""
        self._buckets: TokenBuckets | None = None
        if self.connections is not None:
            rate, capacity = self.connections.amount / self.connections.seconds, self.connections.amount
            self._buckets = TokenBuckets(rate, self.burst or capacity, self.memory // ENTRY_SIZE)
        self._both, self._up, self._down = (self._bytes(rate) for rate in self._bandwidths())
        self._open: dict[str, int] = {}
        # A connection that several cases bring here counts once.
        self._counted: set[NetConn] = set()
        self._by_client = self.key.text == "$src_host"
        self._logging = Sparing()

    def deal(self, conn: NetConn) -> bool:
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
        if not conn.is_datagram:
            self._slow_down(conn, key)
        self._counted.add(conn)
        self._open[key] = self._open.get(key, 0) + 1
        conn.at_end(partial(self._leave, conn, key))
        return False

    def _bytes(self, rate: int | None) -> TokenBuckets | None:
        return (
            TokenBuckets(rate, self.bandwidth_burst or rate, self.memory // ENTRY_SIZE)
            if rate is not None
            else None
        )

    def _slow_down(self, conn: Any, key: str) -> None:
        """Has the connection keep the paces of its key. Two in the same buckets share them."""
        for pair in ((self._both, self._both), (self._up, self._down)):
            up, down = (Pace(buckets, key) if buckets is not None else None for buckets in pair)
            if up is not None or down is not None:
                conn.paces.append((up, down))

    def _key_of(self, conn: NetConn) -> str:
        key = client_of(conn.src_host) if self._by_client else self.key(conn)
        if len(key) > LONGEST_KEY:
            key = hashlib.blake2b(key.encode("utf-8", "surrogateescape"), digest_size=16).hexdigest()
        return key

    def _leave(self, conn: NetConn, key: str) -> None:
        self._counted.discard(conn)
        left = self._open[key] - 1
        if left:
            self._open[key] = left
        else:
            del self._open[key]

    def _refuse(self, conn: NetConn, key: str, limit: str) -> bool:
        conn.refuse(429, f"beyond {limit}")
        more = self._logging.admit(monotonic())
        if more is not None:
            also = f", and {more} others before" if more else ""
            self.stage.log.warning("limit", f"{key!r} is beyond {limit} at {conn.line()}{also}")
        return True
