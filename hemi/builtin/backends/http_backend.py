"""The backend `http_backend`: servers that speak HTTP/1.1 or HTTP/2."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from time import monotonic
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from hemi.component import prop
from hemi.peers import Version, make_header
from hemi.sockets import Sweeper
from hemi.upstream.errors import DialFailed
from hemi.upstream.pool import Pool
from hemi.upstream.sharedpool import SharedPool
from hemi.values import Duration, Size
from hemi.web.h1.backend import Backend1Conn, Backend1Stream
from hemi.web.proxy.backend import WebBackend, ends_of

if TYPE_CHECKING:
    from hemi.upstream.clienttls import ClientPolicy
    from hemi.upstream.node import Node
    from hemi.upstream.pool import Conn
    from hemi.web.h1.answer import Head
    from hemi.web.h2.backend import Backend2Conn

__all__ = ["HTTPBackend"]


class HTTPBackend(WebBackend, sign="http_backend"):
    """A group of HTTP servers. Numbers such as max_conns are per worker: workers do not know of each other.

    In version 2 a connection carries many exchanges at a time. `max_conns` is the number of exchanges there, too.
    """

    conn_class: ClassVar[type[Conn]] = Backend1Conn
    alpn: ClassVar[tuple[str, ...]] = ("http/1.1",)

    version: Literal["1.1", "2"] = prop(
        "1.1",
        "The version of HTTP. With tls, nodes that do not choose 2 get 1.1; without, they must speak 2.",
        inherit=False,
    )
    max_streams: int = prop(
        100,
        "How many exchanges share a connection in version 2, if the node does not want fewer.",
        least=1,
        most=10000,
        inherit=False,
    )
    window_size: Size = prop(
        "256K",
        "How much of a content a node may send in version 2 before the client takes it.",
        least="64K",
        most="16M",
        inherit=False,
    )
    ping_interval: Duration = prop(
        "5m",
        "After how long a silence nodes are asked whether they live, in version 2; 0 is never."
        " Some end connections that ask more often.",
        inherit=False,
    )
    ping_timeout: Duration = prop(
        "10s", "How long the answer to that may take.", least="100ms", inherit=False
    )

    send_proxy: Version | None = prop(
        None,
        "Tell nodes who the client is, by a PROXY header of this version before all else. A connection is one client's"
        " then, and serves one exchange; checks say that nobody is meant.",
        inherit=False,
    )

    def __init__(self, *arguments: Any, **keywords: Any) -> None:
        super().__init__(*arguments, **keywords)
        self.known_heads: dict[bytes, Head] = {}
        self.shared: set[Backend2Conn] = set()
        self._streams_sweeper = Sweeper(self.shared)

    def tls_policy(self) -> ClientPolicy:
        """How to speak TLS with the nodes; over it they may know HTTP/2."""
        policy = super().tls_policy()
        return replace(policy, alpn=("h2", "http/1.1")) if self.version == "2" else policy

    def check(self) -> Iterator[str | tuple[str, str]]:
        """A shared connection has no one client."""
        yield from super().check()
        if self.send_proxy is not None and self.version == "2":
            yield (
                "send_proxy",
                "must not stand beside version: 2, whose connections carry exchanges of several clients",
            )

    def prepare(self) -> None:
        """Readies what is the same for all connections."""
        if self.version == "2":
            self._ready_sharing()
        super().prepare()
        if self.send_proxy is not None:
            self.check_prefix = make_header(self.send_proxy, None, None)

    def _ready_sharing(self) -> None:
        from hemi.web.h2.backend import Backend2Conn, Terms  # the h2 package: 25 ms that few have to pay

        self._conn2 = Backend2Conn
        self._terms = Terms(
            scheme=b"https" if self.tls else b"http",
            max_streams=self.max_streams,
            max_head=self.max_head_size,
            window=self.window_size,
            write_timeout=self.write_timeout,
            ping_interval=self.ping_interval,
            ping_timeout=self.ping_timeout,
            known={},
            known_requests={},
        )

    def start(self) -> None:
        """Begins to look at deadlines."""
        super().start()
        if self.version == "2":
            self._streams_sweeper.start()

    def stop(self, deadline: float) -> None:
        """Ends the connections."""
        super().stop(deadline)
        self._streams_sweeper.stop()
        for conn in list(self.shared):
            conn.end("the stage stops")

    def make_pool(self) -> Pool:
        """The pool of a node."""
        if self.version == "2":
            return SharedPool(self.limits, self.max_streams)
        return Pool(self.limits._replace(conn_uses=1) if self.send_proxy is not None else self.limits)

    def open_for(self, subject: Any, node: Node, deadline: float) -> Any:
        """A new connection to a node, which is told of the client. Raises DialFailed."""
        if self.send_proxy is None:
            return self.open_conn(node, deadline)
        src, dst = ends_of(subject) if subject is not None else (None, None)
        header = make_header(
            self.send_proxy, src, dst, subject.hostname if src else "", subject.tls if src else None
        )
        return Backend1Conn(node, self.open_channel(node, deadline, header), monotonic())

    def open_conn(self, node: Node, deadline: float) -> Any:
        """A connection to a node, or a place on a shared one. Raises DialFailed."""
        if self.version == "2":
            pool: Any = node.pool
            return pool.open(
                partial(self._open, node, deadline), min(deadline, monotonic() + self.dial_timeout)
            )
        return super().open_conn(node, deadline)

    def _open(self, node: Node, deadline: float) -> Any:
        """A new connection that speaks what the node has chosen."""
        deadline = min(deadline, monotonic() + self.dial_timeout)
        channel = self.open_channel(node, deadline)
        chosen = channel.tls.alpn if self.tls else "h2"
        if chosen == "http/1.1":
            return Backend1Conn(node, channel, monotonic())
        if chosen != "h2":
            Backend1Conn(node, channel, monotonic()).close()
            raise DialFailed(
                "it did not choose a version of HTTP", backend=self.name, node=node.key, phase="tls"
            )
        conn = self._conn2(node, channel, self._terms, monotonic(), self._forget)
        self.shared.add(conn)
        try:
            return conn.start(deadline)
        except DialFailed as failure:
            failure.backend = self.name
            raise

    def _forget(self, conn: Backend2Conn) -> None:
        self.shared.discard(conn)
        pool: Any = conn.node.pool
        pool.discard(conn)

    def open_stream(self, conn: Any, method: str) -> Any:
        """An exchange on a connection."""
        if conn.is_shared:
            return conn.begin(method)
        return Backend1Stream(conn.channel, method, self.known_heads, self.max_head_size)
