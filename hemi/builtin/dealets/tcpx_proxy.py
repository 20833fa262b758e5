"""The dealet `tcpx_proxy`: relays between a client and a node of a backend."""

from __future__ import annotations

import math
from collections.abc import Iterator
from time import monotonic
from typing import Any

from hemi.builtin.backends.tcpx_backend import TCPXBackend
from hemi.component import prop
from hemi.net.conn import TCPXConn
from hemi.net.dealet import Dealet
from hemi.net.pace import Pace
from hemi.net.proxied import Version, make_header
from hemi.net.relay import Filter
from hemi.upstream.errors import DialFailed, NoNodeAvailable, UpstreamError
from hemi.upstream.lease import Lease
from hemi.values import Duration, Ref, Size

__all__ = ["TCPXProxy"]


class TCPXProxy(Dealet, sign="tcpx_proxy"):
    """Connects clients to the nodes of a backend, and relays until both sides have ended.

    A node that cannot be reached is left for the next one; once a byte could have been sent, nothing is tried again.
    """

    to_backend: Ref[TCPXBackend] = prop(doc="The backend.", inherit=False)
    tries: int = prop(3, "How many nodes to try for a connection.", least=1, most=100)
    tries_timeout: Duration = prop("15s", "How long all the tries may take together.", least="10ms")
    idle_timeout: Duration = prop(
        "10m", "How long nothing may move either way; it ends up to a quarter later.", least="100ms"
    )
    lifetime: Duration = prop("0s", "How long a connection may last; 0 is for ever.")
    upload_rate: Size | None = prop(
        None, "Bytes per second that each connection may send to its node.", least="256", inherit=False
    )
    download_rate: Size | None = prop(
        None, "Bytes per second that each connection may receive from its node.", least="256", inherit=False
    )
    rate_burst: Size | None = prop(
        None, "Bytes that may pass at full speed before that; those of a second when missing.", inherit=False
    )
    send_proxy: Version | None = prop(
        None, "Tell nodes who their client is, by a PROXY header of this version.", inherit=False
    )

    def check(self) -> Iterator[str | tuple[str, str]]:
        """What belongs to rates must not stand alone."""
        if self.rate_burst is not None and self.upload_rate is None and self.download_rate is None:
            yield "rate_burst", "needs an upload_rate or a download_rate"

    def deal(self, conn: TCPXConn) -> bool:
        """Relays. A connection for which there is no node is closed."""
        backend = self.to_backend
        conn.backend = backend.name
        lease = backend.lease(conn, monotonic() + self.tries_timeout)
        try:
            up = self._connect(lease)
            conn.node = up.node.key
            self._relay(conn, up.channel)
        except UpstreamError as error:
            conn.refuse(502, str(error))
            self.stage.log.warning("router", f"{conn.src_host} has no node: {error}")
        finally:
            lease.end()
        return True

    def _connect(self, lease: Lease) -> Any:
        """A connection to a node. Raises UpstreamError."""
        while True:
            began = monotonic()
            try:
                up = lease.take()
            except DialFailed as error:
                failure: UpstreamError = error
            except NoNodeAvailable as error:
                raise lease.reason(error) from None
            else:
                lease.taken = began  # connecting is all of a node's latency that can be known here
                lease.answered()
                return up
            if lease.tries >= self.tries or monotonic() >= lease.deadline:
                raise failure

    def _relay(self, conn: TCPXConn, node: Any) -> None:
        first = conn.taken()
        if self.send_proxy is not None:
            header = make_header(conn, self.send_proxy)
            try:
                node.send(header)  # alone: it must be there before the node speaks, whatever the client does
            except OSError as error:
                conn.refuse(502, f"node: {error.strerror or error}")
                return
        if self.upload_rate or self.download_rate:
            conn.paces.append((self._pace(self.upload_rate), self._pace(self.download_rate)))
        ends_at = monotonic() + self.lifetime if self.lifetime else math.inf
        conn.relay(node, first, self.idle_timeout, ends_at, self.filters(conn))

    def filters(self, conn: TCPXConn) -> tuple[Filter | None, Filter | None]:
        """What looks at the bytes of a connection, from the client and to it. The place for who knows the protocol: see
        `hemi.net.relay.Filter`, and docs/developer/dealets.md."""
        return None, None

    def _pace(self, rate: int | None) -> Pace | None:
        return Pace.alone(rate, self.rate_burst or 0) if rate else None
