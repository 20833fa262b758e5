"""What listens on TCP, TLS and Unix domain sockets without knowing a protocol: routers, and plain servers.

`Listening` is a part of both kinds, so it is no kind of its own: class TCPXRouter(Listening, Router, sign=…).
"""

from __future__ import annotations

from _socket import socket as RawSocket
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, ClassVar, Literal

from hemi.binding import ListenOptions
from hemi.component import Component, prop
from hemi.conditions import Scope
from hemi.library.networktable import NetworkTable
from hemi.logger import Logger
from hemi.net.certificate import Certificate
from hemi.net.conn import TCPXConn
from hemi.net.gate import Gate
from hemi.net.variables import LOG_SCOPE
from hemi.sockets import listen
from hemi.tls import ClientAuth, MinVersion, Policy, SiteTable, check_policy, warn_of_certificate
from hemi.values import Address, Children, Duration, Mode, Network, Path, Ref

if TYPE_CHECKING:
    from hemi.stage import Stage


class Listening(Component):
    """Accepts connections, reads their PROXY header, does their TLS handshake, and calls `serve` with each."""

    address: list[Address] = prop(doc="Where to listen; several are possible.", least=1, inherit=False)
    backlog: int = prop(4096, "How many connections may wait to be accepted.", least=1, most=65535)
    uds_mode: Mode | None = prop(None, "The file mode of Unix domain sockets, such as 0660.")
    uds_user: str | None = prop(None, "The owner of Unix domain sockets.")
    uds_group: str | None = prop(None, "The group of Unix domain sockets.")
    max_concurrent_conns: int = prop(50000, "How many connections may be open at a time.", least=1)
    overload: Literal["refuse", "pause"] = prop(
        "refuse", "Beyond max_concurrent_conns: close new ones, or let clients wait to be accepted."
    )
    write_timeout: Duration = prop("60s", "How long a client may take nothing.", least="100ms")
    handshake_timeout: Duration = prop(
        "10s", "How long a TLS handshake or PROXY header may take.", least="100ms"
    )
    inspect_timeout: Duration = prop(
        "3s", "How long to wait for a ClientHello, when somebody asks what is in it.", least="10ms"
    )

    tls: bool = prop(False, "End TLS here, with one of the certificates.", inherit=False)
    certificates: Children[Certificate] = prop([], "Certificates, by host name.", inherit=False)
    tls_strict_sni: bool = prop(False, "Refuse clients that name no host of a certificate.")
    tls_next_protos: list[str] = prop([], "Protocols to agree on by ALPN, best first.", inherit=False)
    tls_min_version: MinVersion = prop("1.2", "The oldest version of TLS.")
    tls_ciphers: str = prop("", "The cipher suites for TLS 1.2, as OpenSSL names them; good ones when empty.")
    tls_client_auth: ClientAuth = prop("off", "Whether clients may or must show a certificate.")
    tls_client_ca: Path | None = prop(
        None, "PEM file with the authorities that client certificates must come from."
    )
    tls_client_crl: Path | None = prop(None, "PEM file with the revocation lists of these authorities.")

    proxy_protocol: bool = prop(
        False, "Connections from proxy_protocol_from begin with a PROXY header (v1 or v2)."
    )
    proxy_protocol_from: list[Network] = prop(
        ["127.0.0.0/8", "::1/128"],
        "The proxies that send PROXY headers; of others none is expected. Unix domain clients are proxies always.",
    )
    access_log: Ref[Logger] | None = prop(None, "Where connections are logged when they have ended.")

    requests = 0
    """How many connections were served."""

    record: Callable[[TCPXConn], None] | None = None
    conn_class: ClassVar[type[TCPXConn]] = TCPXConn
    log_scope: ClassVar[Scope] = LOG_SCOPE

    def check(self) -> Iterator[str | tuple[str, str]]:
        """What does not fit together: addresses, certificates, the format of the log."""
        if len(set(self.address)) != len(self.address):
            yield "address", "must not name the same address twice"
        if self.tls and not self.certificates:
            yield "tls", "needs certificates"
        if self.certificates and not self.tls:
            yield "certificates", "are for tls: true"
        names = [name for one in self.certificates for name in one.hostnames]
        for name in sorted({name for name in names if names.count(name) > 1}):
            yield "certificates", f'must not have two for the host name "{name}"'
        if self.tls_client_auth != "off" and self.tls_client_ca is None:
            yield "tls_client_auth", f'"{self.tls_client_auth}" needs tls_client_ca'
        elif self.tls and (problem := check_policy(self._policy())):
            yield problem
        if self.access_log is not None and (problem := self.access_log.format_problem(self.log_scope)):
            yield "access_log", f"does not fit connections: {problem}"

    def _policy(self) -> Policy:
        return Policy(
            min_version=self.tls_min_version,
            ciphers=self.tls_ciphers,
            client_auth=self.tls_client_auth,
            client_ca=self.tls_client_ca or "",
            client_crl=self.tls_client_crl or "",
            alpn=tuple(self.tls_next_protos),
        )

    # Life

    def prepare(self) -> None:
        """Builds the tables and takes the addresses."""
        self.gates: list[Gate] = []
        self._open: list[Gate] = []  # those whose addresses are still to be given back
        self._proxies: NetworkTable[bool] = NetworkTable()
        for network in dict.fromkeys(self.proxy_protocol_from):
            self._proxies.add(network, True)
        if self.access_log is not None:
            self.record = self.access_log.recorder(self.log_scope)
        if self.tls:
            self._prepare_tls()
        self.take_addresses()

    def take_addresses(self) -> None:
        """Listens. Raises EnvError."""
        options = ListenOptions(self.backlog, self.uds_mode, self.uds_user, self.uds_group)
        for address in self.address:
            self.gates.append(Gate(self, listen(address, options, self.name)))
            self._open.append(self.gates[-1])

    def _prepare_tls(self) -> None:
        self.tls_sites = SiteTable(self.tls_strict_sni)
        for one in self.certificates:
            site = self.tls_sites.site(one.identity, self._policy())
            self.tls_sites.add(one.hostnames, site)
            # Without "*" the first one is for clients that name no host, or an unknown one.
            self.tls_sites.default = self.tls_sites.default or site
            for warning in warn_of_certificate(one.certificate, one.hostnames):
                self.stage.log.warning("tls", f"{self.label}: {warning}")
        for one in self.certificates:
            if "*" in one.hostnames:
                self.tls_sites.default = self.tls_sites.site(one.identity, self._policy())

    def start(self) -> None:
        """Opens the gates."""
        for gate in self.gates:
            gate.start()

    def take_over(self, predecessor: Stage) -> None:
        """Lets the gates of the stage before accept no more, where this one accepts; their connections stay there."""
        mine = [gate.listener for gate in self.gates]
        for section in ("routers", "servers"):
            for other in predecessor.members.get(section, {}).values():
                if isinstance(other, Listening):
                    for gate in other.gates:
                        if gate.listener in mine:
                            gate.retire()

    def stop(self, deadline: float) -> None:
        """Closes the gates, gives the addresses back, waits for the connections until `deadline`, cuts the rest."""
        gates, self._open = getattr(self, "_open", []), []
        for gate in gates:
            gate.close()
            gate.listener.release()  # before the drain: clients must be refused, not queued for nobody
        for gate in gates:
            gate.join(deadline)  # its connections count until they have ended

    @property
    def conns(self) -> int:
        """How many connections are open."""
        count = 0
        for gate in self.gates:
            count += len(gate.greenlets)
        return count

    @property
    def addresses(self) -> list[str]:
        """The addresses as they were bound."""
        return [gate.listener.bound for gate in self.gates]

    def urls(self) -> list[str]:
        """The same, for people."""
        return self.addresses

    # For the gates

    def is_full(self) -> bool:
        """True when there are as many connections as may be."""
        return self.conns >= self.max_concurrent_conns

    def turn_away(self, sock: RawSocket) -> None:
        """Ends a connection for which there is no room. Must not wait."""
        sock.close()

    def expects_header(self, conn: TCPXConn) -> bool:
        """Whether a connection must begin with a PROXY header."""
        return self.proxy_protocol and (conn.is_uds or self._proxies.find(conn.src_host) is not None)

    def serve(self, conn: TCPXConn) -> None:
        """Deals with a connection, in its greenlet; it is closed afterwards."""
        raise NotImplementedError


__all__ = ["Listening"]
