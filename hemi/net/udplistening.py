"""What takes datagrams on UDP and Unix domain sockets without knowing a protocol.

Like `TCPXListening` for connections, a part of several kinds and so no kind of its own.
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from hemi.component import prop
from hemi.listening import Listening
from hemi.logger import Logger
from hemi.net.udpconn import UDPXConn
from hemi.net.udpgate import UDPXGate
from hemi.net.variables import UDP_LOG_SCOPE
from hemi.peers import UDS_HOST, plain_host
from hemi.values import Address, Ref, Size

if TYPE_CHECKING:
    from hemi.stage import Stage

__all__ = ["UDPXListening"]


class UDPXListening(Listening):
    """Takes datagrams, and calls `serve` with the session of each new source."""

    address: list[Address] = prop(
        doc="Where to take datagrams: UDP, or the path (or @name) of a Unix datagram socket; several are possible.",
        least=1, inherit=False,
    )  # fmt: skip
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
    access_log: Ref[Logger] | None = prop(
        None, "Where sessions are logged when they have ended. What is dropped is counted, in the error log."
    )

    requests = 0
    """How many sessions were begun."""

    gates: Sequence[UDPXGate]
    record: Callable[[UDPXConn], None] | None = None

    def check(self) -> Iterator[str | tuple[str, str]]:
        """What does not fit together: addresses, the format of the log."""
        yield from super().check()
        if self.access_log is not None and (problem := self.access_log.format_problem(UDP_LOG_SCOPE)):
            yield "access_log", f"does not fit sessions of datagrams: {problem}"

    # Life

    def prepare(self) -> None:
        """Builds the tables and takes the addresses."""
        super().prepare()
        if self.access_log is not None:
            self.record = self.access_log.recorder(UDP_LOG_SCOPE)
        self.gates = self._open = gates = []
        for listener in self.take_datagrams():
            with suppress(OSError):
                listener.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, self.receive_buffer)
            gates.append(UDPXGate(self, listener))

    def take_over(self, predecessor: Stage) -> None:
        """Lets the gates of the stage before read no more, where this one reads; their sessions stay there."""
        for _, gate, _ in self.retiring(predecessor, UDPXListening):
            gate.retire()

    def stop(self, deadline: float) -> None:
        """Closes the gates, waits for the sessions until `deadline`, ends the rest, gives the addresses back."""
        gates, self._open = self._open, ()
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

    def urls(self) -> list[str]:
        """The same, for people."""
        return [one if "/" in one or one.startswith("@") else f"udp {one}" for one in self.addresses]

    # For the gates

    def is_full(self) -> bool:
        """True when there are as many sessions as may be."""
        return self.conns >= self.max_sessions

    def expects_header(self, peer: Any, is_uds: bool) -> bool:
        """Whether the datagrams of a peer have a PROXY header."""
        return self.proxy_protocol and self.is_proxy(UDS_HOST if is_uds else plain_host(peer[0]))

    def serve(self, conn: UDPXConn) -> None:
        """Deals with a session, in a greenlet: who wants its datagrams calls `conn.take`."""
        raise NotImplementedError
