"""What the backends of web proxies share, whatever their protocol: exchanges that end when their clients leave."""

from __future__ import annotations

from time import monotonic
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

from hemi.component import prop
from hemi.peers import UDS_HOST, plain_host
from hemi.upstream.backend import Backend
from hemi.upstream.errors import NoNodeAvailable, UpstreamError
from hemi.upstream.pool import Conn
from hemi.values import Size
from hemi.web.errors import HTTPError
from hemi.web.variables import REQUEST_SCOPE

if TYPE_CHECKING:
    from hemi.proxy_protocol import Endpoint
    from hemi.upstream.dial import Dialed
    from hemi.upstream.node import Node
    from hemi.web.request import Request

__all__ = ["Exchange", "WebBackend", "WebConn", "ends_of", "http_error_for"]


class Exchange(Protocol):
    """What the backend looks after."""

    def is_abandoned(self) -> bool: ...

    def cancel(self) -> None: ...


class WebConn(Conn):
    """A connection to a node, which is an `Exchange` by itself while a `Lane` uses it: `req` is the request that waits
    on it, and `gone` says that its client has left. `farewell` is what the node is told then."""

    __slots__ = ("farewell", "gone", "req")

    def __init__(self, node: Node, channel: Dialed, now: float) -> None:
        Conn.__init__(self, node, channel, now)
        self.req: Request | None = None
        self.gone = False
        self.farewell = b""

    def is_abandoned(self) -> bool:
        """Whether nobody waits for the answer any more."""
        return self.req is not None and not self.gone and self.req.stream.is_gone()

    def cancel(self) -> None:
        """Tells the node, and wakes the exchange out of what it waits for."""
        self.gone = True
        if self.farewell and self.channel.tls is None:
            try:
                self.channel.sock.send(self.farewell)
            except OSError:
                pass
        self.channel.cut(monotonic())


def http_error_for(failure: UpstreamError) -> HTTPError:
    """What the client is told; why it was so is for the log."""
    if isinstance(failure, NoNodeAvailable):
        return HTTPError(503, "No server is there for this.", headers=(("retry-after", "1"),))
    if failure.timed_out:
        return HTTPError(504, "The server behind this one did not answer in time.")
    return HTTPError(502, "The server behind this one gave no good answer.")


def ends_of(req: Request) -> tuple[Endpoint | None, Endpoint | None]:
    """The client of a request and where it has connected to; None for both when they have no addresses."""
    try:
        name = req.stream.conn.channel.sock.getsockname()
    except (AttributeError, OSError):
        return None, None
    if req.src_host == UDS_HOST or not isinstance(name, tuple):
        return None, None
    return (req.src_host, req.src_port), (plain_host(name[0]), name[1])


class WebBackend(Backend):
    """A group of servers that web requests go to."""

    conn_class: ClassVar[type[Conn]] = WebConn
    scope = REQUEST_SCOPE

    max_head_size: Size = prop("64K", "The largest head of an answer.", least="1K", most="1M", inherit=False)

    def __init__(self, *arguments: Any, **keywords: Any) -> None:
        super().__init__(*arguments, **keywords)
        self.exchanges: set[Exchange] = set()  # that wait for a node

    def tick(self, now: float) -> None:
        """Also looks after clients that have left: a node should not work for nobody."""
        super().tick(now)
        for exchange in [one for one in self.exchanges if one.is_abandoned()]:
            exchange.cancel()
