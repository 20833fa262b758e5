"""What components that listen have in common: addresses, whom to believe PROXY headers, TLS, and the life of gates.

Parts of components, and no kinds of their own: class HTTPXServer(StreamListening, Server, sign=…). What becomes of a
connection or a datagram is for the gates; each protocol has its own.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Literal, TypeVar

from hemi.binding import ListenOptions
from hemi.component import Component, prop
from hemi.library.networktable import NetworkTable, plain
from hemi.listeners import Listener, listen, takes_datagrams
from hemi.peers import UDS_HOST
from hemi.tls import ClientAuth, MinVersion, Policy, check_policy
from hemi.values import Address, Duration, Mode, Network, Path

if TYPE_CHECKING:
    from hemi.stage import Stage

__all__ = ["Listening", "StreamListening"]

T = TypeVar("T", bound="Listening")


class Listening(Component):
    """Has addresses, and a gate at each."""

    address: list[Address] = prop(doc="Where to listen; several are possible.", least=1, inherit=False)
    uds_mode: Mode | None = prop(None, "The file mode of Unix domain sockets, such as 0660.")
    uds_user: str | None = prop(None, "The owner of Unix domain sockets.")
    uds_group: str | None = prop(None, "The group of Unix domain sockets.")
    proxy_protocol: bool = prop(
        False, "Connections from proxy_protocol_from begin with a PROXY header (v1 or v2)."
    )
    proxy_protocol_from: list[Network] = prop(
        ["127.0.0.0/8", "::1/128"],
        "The proxies that send PROXY headers; of others none is expected. Unix domain clients are proxies always.",
    )

    gates: Sequence[Any] = ()
    """One for each listener, from `prepare` on."""
    _open: Sequence[Any] = ()
    """Those whose listeners are still to be given back."""

    def check(self) -> Iterator[str | tuple[str, str]]:
        """Addresses must differ."""
        if len(set(self.address)) != len(self.address):
            yield "address", "must not name the same address twice"

    def prepare(self) -> None:
        """Builds the table of proxies."""
        self._proxies: NetworkTable[bool] = NetworkTable()
        for network in dict.fromkeys(map(plain, self.proxy_protocol_from)):
            self._proxies.add(network, True)

    def is_proxy(self, host: str) -> bool:
        """Whether a peer with this address is one of those that send PROXY headers."""
        return host == UDS_HOST or self._proxies.find(host) is not None

    def start(self) -> None:
        """Opens the gates."""
        for gate in self.gates:
            gate.start()

    def retiring(self, predecessor: Stage, kind: type[T]) -> Iterator[tuple[T, Any, Any]]:
        """What retires now that the gates are open: components of the stage before, each with a gate of theirs and ours
        at the same listener."""
        ours = {gate.listener: gate for gate in self.gates}
        for section in ("routers", "servers"):
            for other in predecessor.members.get(section, {}).values():
                if isinstance(other, kind):
                    for gate in other.gates:
                        if gate.listener in ours:
                            yield other, gate, ours[gate.listener]

    def take_datagrams(self) -> Iterator[Listener]:
        """Listens for datagrams, at the addresses whose datagrams are this process's. Raises EnvError."""
        options = ListenOptions(
            uds_mode=self.uds_mode, uds_user=self.uds_user, uds_group=self.uds_group, datagram=True
        )
        for address in self.address:
            if takes_datagrams(address):
                yield listen(address, options, self.name)

    @property
    def addresses(self) -> list[str]:
        """The addresses as they were bound."""
        return [gate.listener.bound for gate in self.gates]

    def urls(self) -> list[str]:
        """The same, for people."""
        return self.addresses


class StreamListening(Listening):
    """Accepts connections on TCP, TLS and Unix domain sockets."""

    backlog: int = prop(4096, "How many connections may wait to be accepted.", least=1, most=65535)
    max_concurrent_conns: int = prop(50000, "How many connections may be open at a time.", least=1)
    overload: Literal["refuse", "pause"] = prop(
        "refuse", "Beyond max_concurrent_conns: close new ones, or let clients wait to be accepted."
    )
    handshake_timeout: Duration = prop(
        "10s", "How long a TLS handshake or PROXY header may take.", least="100ms"
    )

    tls: bool = prop(False, "End TLS here, with one of the certificates.", inherit=False)
    tls_strict_sni: bool = prop(False, "Refuse clients that name no host of a certificate.")
    tls_min_version: MinVersion = prop("1.2", "The oldest version of TLS.")
    tls_ciphers: str = prop("", "The cipher suites for TLS 1.2, as OpenSSL names them; good ones when empty.")
    tls_client_auth: ClientAuth = prop("off", "Whether clients may or must show a certificate.")
    tls_client_ca: Path | None = prop(
        None, "PEM file with the authorities that client certificates must come from."
    )
    tls_client_crl: Path | None = prop(None, "PEM file with the revocation lists of these authorities.")

    gate_class: ClassVar[type[Any]]

    def check(self) -> Iterator[str | tuple[str, str]]:
        """What does not fit together: addresses, and how clients prove who they are."""
        yield from super().check()
        if self.tls_client_auth != "off" and self.tls_client_ca is None:
            yield "tls_client_auth", f'"{self.tls_client_auth}" needs tls_client_ca'
        elif self.tls and (problem := check_policy(self.tls_policy())):
            yield problem

    def alpn(self) -> tuple[str, ...]:
        """The protocols to agree on over TLS, best first."""
        raise NotImplementedError

    def tls_policy(self) -> Policy:
        """What was configured about TLS, apart from the certificates."""
        return Policy(
            min_version=self.tls_min_version,
            ciphers=self.tls_ciphers,
            client_auth=self.tls_client_auth,
            client_ca=self.tls_client_ca or "",
            client_crl=self.tls_client_crl or "",
            alpn=self.alpn(),
        )

    def take_addresses(self) -> None:
        """Listens for connections. Raises EnvError."""
        options = ListenOptions(self.backlog, self.uds_mode, self.uds_user, self.uds_group)
        self.gates = self._open = gates = []
        for address in self.address:
            gates.append(self.gate_class(self, listen(address, options, self.name)))

    def close_gates(self) -> Sequence[Any]:
        """Closes the gates, gives the addresses back, and returns the gates whose connections are still to end: none
        at a second call."""
        gates, self._open = self._open, ()
        for gate in gates:
            gate.close()
            gate.listener.release()  # before the drain: clients must be refused, not queued for nobody
        return gates

    def stop(self, deadline: float) -> None:
        """Closes the gates, gives the addresses back, waits for the connections until `deadline`, cuts the rest."""
        for gate in self.close_gates():
            gate.join(deadline)  # its connections count until they have ended

    @property
    def conns(self) -> int:
        """How many connections are open."""
        count = 0
        for gate in self.gates:
            count += len(gate.greenlets)
        return count

    def is_full(self) -> bool:
        """True when there are as many connections as may be."""
        return self.conns >= self.max_concurrent_conns
