"""What listens on TCP, TLS and Unix domain sockets without knowing a protocol: routers, and plain servers.

`TCPXListening` is a part of both kinds, so it is no kind of its own: class TCPXRouter(TCPXListening, Router, sign=…).
"""

from __future__ import annotations

from _socket import socket as RawSocket
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, ClassVar

from hemi.component import prop
from hemi.conditions import Scope
from hemi.listening import StreamListening
from hemi.logger import Logger
from hemi.net.certificate import Certificate
from hemi.net.conn import TCPXConn
from hemi.net.gate import Gate
from hemi.net.variables import LOG_SCOPE
from hemi.tls import SiteTable, warn_of_certificate
from hemi.values import Children, Duration, Ref

if TYPE_CHECKING:
    from hemi.stage import Stage

__all__ = ["TCPXListening"]


class TCPXListening(StreamListening):
    """Accepts connections, reads their PROXY header, does their TLS handshake, and calls `serve` with each."""

    write_timeout: Duration = prop("60s", "How long a client may take nothing.", least="100ms")
    inspect_timeout: Duration = prop(
        "3s", "How long to wait for a ClientHello, when somebody asks what is in it.", least="10ms"
    )
    certificates: Children[Certificate] = prop([], "Certificates, by host name.", inherit=False)
    tls_next_protos: list[str] = prop([], "Protocols to agree on by ALPN, best first.", inherit=False)
    access_log: Ref[Logger] | None = prop(None, "Where connections are logged when they have ended.")

    requests = 0
    """How many connections were served."""

    gates: Sequence[Gate]
    record: Callable[[TCPXConn], None] | None = None
    gate_class = Gate
    conn_class: ClassVar[type[TCPXConn]] = TCPXConn
    log_scope: ClassVar[Scope] = LOG_SCOPE

    def check(self) -> Iterator[str | tuple[str, str]]:
        """What does not fit together: addresses, certificates, the format of the log."""
        if self.tls and not self.certificates:
            yield "tls", "needs certificates"
        if self.certificates and not self.tls:
            yield "certificates", "are for tls: true"
        names = [name for one in self.certificates for name in one.hostnames]
        for name in sorted({name for name in names if names.count(name) > 1}):
            yield "certificates", f'must not have two for the host name "{name}"'
        yield from super().check()
        if self.access_log is not None and (problem := self.access_log.format_problem(self.log_scope)):
            yield "access_log", f"does not fit connections: {problem}"

    def alpn(self) -> tuple[str, ...]:
        """The protocols to agree on over TLS, best first."""
        return tuple(self.tls_next_protos)

    # Life

    def prepare(self) -> None:
        """Builds the tables and takes the addresses."""
        super().prepare()
        if self.access_log is not None:
            self.record = self.access_log.recorder(self.log_scope)
        if self.tls:
            self._prepare_tls()
        self.take_addresses()

    def _prepare_tls(self) -> None:
        self.tls_sites = SiteTable(self.tls_strict_sni)
        for one in self.certificates:
            site = self.tls_sites.site(one.identity, self.tls_policy())
            self.tls_sites.add(one.hostnames, site)
            # Without "*" the first one is for clients that name no host, or an unknown one.
            self.tls_sites.default = self.tls_sites.default or site
            for warning in warn_of_certificate(one.certificate, one.hostnames):
                self.stage.log.warning("tls", f"{self.label}: {warning}")
        for one in self.certificates:
            if "*" in one.hostnames:
                self.tls_sites.default = self.tls_sites.site(one.identity, self.tls_policy())

    def take_over(self, predecessor: Stage) -> None:
        """Lets the gates of the stage before accept no more, where this one accepts; their connections stay there."""
        for _, gate, _ in self.retiring(predecessor, TCPXListening):
            gate.retire()

    # For the gates

    def turn_away(self, sock: RawSocket) -> None:
        """Ends a connection for which there is no room. Must not wait."""
        sock.close()

    def expects_header(self, conn: TCPXConn) -> bool:
        """Whether a connection must begin with a PROXY header."""
        return self.proxy_protocol and self.is_proxy(conn.src_host)

    def serve(self, conn: TCPXConn) -> None:
        """Deals with a connection, in its greenlet; it is closed afterwards."""
        raise NotImplementedError
