"""What takes datagrams on UDP and Unix domain sockets without knowing a protocol.

Like `Listening` for connections, a part of several kinds and so no kind of its own.
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from hemi.binding import ListenOptions
from hemi.component import Component, prop
from hemi.library.networktable import NetworkTable
from hemi.logger import Logger
from hemi.net.udpconn import UDPXConn
from hemi.net.udpgate import UDPXGate
from hemi.net.variables import UDP_LOG_SCOPE
from hemi.peers import plain_host
from hemi.sockets import listen, takes_datagrams
from hemi.values import Address, Mode, Network, Ref, Size

if TYPE_CHECKING:
    from hemi.stage import Stage

__all__ = ["DatagramListening"]


class DatagramListening(Component):
    """Takes datagrams, and calls `serve` with the session of each new source."""

    address: list[Address] = prop(
        doc="Where to take datagrams: UDP, or the path (or @name) of a Unix datagram socket; several are possible.",
        least=1, inherit=False,
    )  # fmt: skip
    uds_mode: Mode | None = prop(None, "The file mode of Unix domain sockets, such as 0660.")
    uds_user: str | None = prop(None, "The owner of Unix domain sockets.")
    uds_group: str | None = prop(None, "The group of Unix domain sockets.")
    receive_buffer: Size = prop(
        "1M", "How much the kernel may keep that was not read yet; it has limits of its own (rmem_max).",
        least="4K", most="1G",
    )  # fmt: skip
    max_sessions: int = prop(
        10000,
        "How many sources may have a session at a time, per worker. Datagrams of further ones are dropped: who has a "
        "session keeps it, however many sources somebody forges.",
        least=1, inherit=False,
    )  # fmt: skip
    proxy_protocol: bool = prop(
        False,
        "Datagrams from proxy_protocol_from begin with a PROXY header (v2): each of them, or the first of a source.",
    )
    proxy_protocol_from: list[Network] = prop(
        ["127.0.0.0/8", "::1/128"],
        "The proxies that send PROXY headers; of others none is expected. Unix domain clients are proxies always.",
    )
    access_log: Ref[Logger] | None = prop(
        None, "Where sessions are logged when they have ended. What is dropped is counted, in the error log."
    )

    requests = 0
    """How many sessions were begun."""

    record: Callable[[UDPXConn], None] | None = None

    def check(self) -> Iterator[str | tuple[str, str]]:
        """What does not fit together: addresses, the format of the log."""
        if len(set(self.address)) != len(self.address):
            yield "address", "must not name the same address twice"
        if self.access_log is not None and (problem := self.access_log.format_problem(UDP_LOG_SCOPE)):
            yield "access_log", f"does not fit sessions of datagrams: {problem}"

    # Life

    def prepare(self) -> None:
        """Builds the tables and takes the addresses."""
        self.gates: list[UDPXGate] = []
        self._open: list[UDPXGate] = []  # those whose addresses are still to be given back
        self._proxies: NetworkTable[bool] = NetworkTable()
        for network in dict.fromkeys(self.proxy_protocol_from):
            self._proxies.add(network, True)
        if self.access_log is not None:
            self.record = self.access_log.recorder(UDP_LOG_SCOPE)
        options = ListenOptions(
            uds_mode=self.uds_mode, uds_user=self.uds_user, uds_group=self.uds_group, datagram=True
        )
        for address in self.address:
            if takes_datagrams(address):
                listener = listen(address, options, self.name)
                with suppress(OSError):
                    listener.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, self.receive_buffer)
                self.gates.append(UDPXGate(self, listener))
                self._open.append(self.gates[-1])

    def start(self) -> None:
        """Opens the gates."""
        for gate in self.gates:
            gate.start()

    def take_over(self, predecessor: Stage) -> None:
        """Lets the gates of the stage before read no more, where this one reads; their sessions stay there."""
        mine = [gate.listener for gate in self.gates]
        for section in ("routers", "servers"):
            for other in predecessor.members.get(section, {}).values():
                if isinstance(other, DatagramListening):
                    for gate in other.gates:
                        if gate.listener in mine:
                            gate.retire()

    def stop(self, deadline: float) -> None:
        """Closes the gates, waits for the sessions until `deadline`, ends the rest, gives the addresses back."""
        gates, self._open = getattr(self, "_open", []), []
        for gate in gates:
            gate.retire()
        for gate in gates:
            gate.join(deadline)
        for gate in gates:
            gate.listener.release()  # after the drain: answers go out by this socket

    @property
    def conns(self) -> int:
        """How many sessions there are."""
        return sum(len(gate.conns) for gate in self.gates)

    @property
    def addresses(self) -> list[str]:
        """The addresses as they were bound."""
        return [gate.listener.bound for gate in self.gates]

    def urls(self) -> list[str]:
        """The same, for people."""
        return [one if "/" in one or one.startswith("@") else f"udp {one}" for one in self.addresses]

    # For the gates

    def is_full(self) -> bool:
        """True when there are as many sessions as may be."""
        return self.conns >= self.max_sessions

    def expects_header(self, peer: Any, is_uds: bool) -> bool:
        """Whether the datagrams of a peer have a PROXY header."""
        return self.proxy_protocol and (is_uds or self._proxies.find(plain_host(peer[0])) is not None)

    def serve(self, conn: UDPXConn) -> None:
        """Deals with a session, in a greenlet: who wants its datagrams calls `conn.take`."""
        raise NotImplementedError
