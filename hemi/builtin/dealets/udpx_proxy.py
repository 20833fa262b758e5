"""The dealet `udpx_proxy`: relays datagrams between a client and a node of a backend.

Everything but the first step happens in the hub, and waits for nothing: no session has a greenlet. Of a session whose
node has a name, a greenlet finds the address; its datagrams are kept meanwhile.
"""

from __future__ import annotations

import errno
import resource
from _socket import socket as RawSocket
from time import monotonic
from typing import Any, Literal

import gevent
from gevent import get_hub

from hemi.acceptor import RESERVED_FILES
from hemi.builtin.backends.udpx_backend import UDPXBackend
from hemi.component import prop
from hemi.library.sparing import Sparing
from hemi.net.dealet import Dealet
from hemi.net.udpconn import UDPXConn
from hemi.net.udpport import LOST, SIZE
from hemi.peers import UDS_HOST
from hemi.proxy_protocol import build_v2
from hemi.resolvconf import literal_family
from hemi.sockets import READ
from hemi.upstream.dial import dial_datagrams
from hemi.upstream.errors import DialFailed, UpstreamError
from hemi.upstream.node import Node
from hemi.values import Duration, Ref

__all__ = ["UDPXProxy"]

BURST = 32
"""Datagrams of a node that are read before others get their turn."""

MOST_UNANSWERED = 16
MOST_UNANSWERED_BYTES = 131072
"""What is kept of a client's datagrams until its node has answered for the first time: another one may need them."""


class UDPXProxy(Dealet, sign="udpx_proxy"):
    """Relays the datagrams of each source to one node of a backend, and the answers back. Each session has a socket of
    its own, so that the node can tell sessions apart, and its ICMP errors are seen.

    When ICMP says that a node is not there before it has answered anything, the next one gets what was sent.
    """

    transports = ("udpx",)

    to_backend: Ref[UDPXBackend] = prop(doc="The backend.", inherit=False)
    responses: int | None = prop(
        None,
        "How many datagrams answer one of the client's. The session ends when all have come, and a node that sends "
        "none has failed, unless it has checks; 0: none are expected. When missing, nothing is known: a session ends "
        "by idle_timeout.",
        least=0, most=1000000, inherit=False,
    )  # fmt: skip
    idle_timeout: Duration = prop("1m", "After how long without a datagram a session ends.", least="10ms")
    tries: int = prop(3, "How many nodes to try for a session.", least=1, most=100)
    send_proxy: Literal["first", "each"] | None = prop(
        None,
        "Tell nodes who their client is, by a PROXY header (v2) in the first datagram of a session, or in each.",
        inherit=False,
    )

    def prepare(self) -> None:
        """Looks how many descriptors there are."""
        self.most_files = max(resource.getrlimit(resource.RLIMIT_NOFILE)[0] - RESERVED_FILES, 8)
        self.warnings = Sparing()

    def deal(self, conn: UDPXConn) -> bool:
        """Begins to relay. A session for which there is no node is dropped."""
        conn.backend = self.to_backend.name
        session = _Session(self, conn)
        if session.begin():
            conn.take(session.feed, monotonic() + self.idle_timeout)
        return True

    def tell(self, conn: UDPXConn, what: str) -> None:
        """Notes in the error log that a client could not be served; sparingly, as sources can be forged."""
        more = self.warnings.admit(monotonic())
        if more is not None:
            also = f", and {more} others before" if more else ""
            self.stage.log.warning("router", f"{conn.src_host} has no node: {what}{also}")


class _Session:
    """What goes between a client and its node."""

    __slots__ = (
        "answers",
        "asked",
        "conn",
        "dealet",
        "header",
        "idle_timeout",
        "lease",
        "node",
        "send",
        "sock",
        "unanswered",
        "watcher",
    )

    def __init__(self, dealet: UDPXProxy, conn: UDPXConn) -> None:
        self.dealet = dealet
        self.conn = conn
        self.idle_timeout = dealet.idle_timeout
        self.lease = dealet.to_backend.lease(conn)
        self.header = _header_of(conn) if dealet.send_proxy else b""
        self.answers = 0
        self.asked = 0
        self.unanswered: list[bytes] | None = []
        self.node: Any = None
        self.sock: RawSocket | None = None
        self.send: Any = self._keep
        self.watcher: Any = None
        conn.at_end(self._end)

    # A node

    def begin(self) -> bool:
        """Chooses a node; False when there is none, which is noted."""
        try:
            self.node = self.lease.choose_now()
        except UpstreamError as error:
            # That all were tried says less than what the last one failed of.
            self._refuse(self.lease.failures[-1] if self.lease.failures else error)
            return False
        self.conn.node = self.node.key
        address = self.node.address
        if address.path or literal_family(address.host or "127.0.0.1") is not None:
            return self._open(self.node)
        self.send = self._keep
        gevent.spawn(self._open, self.node)  # its name may have to be asked for
        return True

    def _open(self, node: Node) -> bool:
        """Connects to a node, and sends what has come until now; tries another one when that is not possible."""
        backend = self.dealet.to_backend
        try:
            sock = dial_datagrams(node.address, self.dealet.stage.resolv, timeout=backend.dial_timeout)
        except DialFailed as error:
            error.backend = backend.name
            if not self.conn.ended:
                self.lease.fail(error.phase, error, counts=not error.is_local)
                return self._next(error)
            return False
        if self.conn.ended:
            sock.close()
            return False
        if sock.fileno() >= self.dealet.most_files:
            sock.close()
            self._refuse("no descriptor is left for it")
            return False
        self.sock, self.send = sock, sock.send
        self.watcher = get_hub().loop.io(sock.fileno(), READ)
        self.watcher.start(self._readable)
        self.lease.taken = monotonic()
        for data in self.unanswered or ():
            self._send(data)
        return not self.conn.ended

    def _next(self, failure: Any) -> bool:
        """Goes to another node, if one may be tried."""
        if self.lease.tries < self.dealet.tries:
            return self.begin()
        self._refuse(failure)
        return False

    def _refuse(self, why: Any) -> None:
        self.conn.refuse(502, str(why))
        self.dealet.tell(self.conn, str(why))
        if self.conn.is_taken:
            self.conn.end()

    # Datagrams of the client: in the hub

    def feed(self, data: bytes, now: float) -> None:
        """Passes a datagram on."""
        conn, node = self.conn, self.node
        conn.deadline = now + self.idle_timeout
        conn.bytes_received += len(data)
        conn.datagrams_received += 1
        conn.asking = True
        self.asked += 1
        if (node.sick or node.gone) and node not in self.lease.backend.roster.ready:
            self._leave(data, now)  # a check found that out: who goes on sending would never get away from it
            return
        if self.header:
            data = self.header + data
            if self.dealet.send_proxy == "first":
                self.header = b""
        if self.unanswered is not None:
            self._note(data)
        self._send(data)

    def _note(self, data: bytes) -> None:
        kept = self.unanswered
        if kept is not None:
            if self.dealet.responses == 0:
                kept.clear()  # the last one is all that may be worth to be sent again
            if len(kept) < MOST_UNANSWERED and sum(map(len, kept)) + len(data) <= MOST_UNANSWERED_BYTES:
                kept.append(data)

    def _keep(self, data: bytes) -> int:
        """Stands for `send` while there is no node yet: what is unanswered is sent then."""
        return len(data)

    def _send(self, data: bytes) -> None:
        try:
            self.send(data)
        except OSError as error:
            if error.errno in LOST:
                self.conn.gate.unsent += 1
            elif self.unanswered is None:
                self._failed(error)
            else:
                get_hub().loop.run_callback(self._failed, error, self.sock)  # not while these are being sent

    def _leave(self, data: bytes, now: float) -> None:
        """Ends the session, and has the datagram begin a new one, at another node."""
        conn = self.conn
        conn.end("its node is down")
        reader = conn.gate.listener.reader
        if reader is not None:
            reader.resume(conn, data, now)

    # Answers: in the hub

    def _readable(self) -> None:
        conn, sock = self.conn, self.sock
        reply = conn.reply
        expected = self.asked * (self.dealet.responses or 0)
        try:
            for _ in range(BURST):
                reply(sock.recv(SIZE))  # type: ignore[union-attr]
                self.answers += 1
                if self.unanswered is not None:
                    self.unanswered = None
                    self.lease.answered()
                if expected and self.answers >= expected:
                    conn.end()
                    return
        except BlockingIOError:
            pass
        except OSError as error:
            if not conn.ended:
                self._failed(error)
            return
        conn.deadline = monotonic() + self.idle_timeout

    # Failing, ending

    def _failed(self, error: OSError, sock: RawSocket | None = None) -> None:
        """The node is not there. As long as it has answered nothing, another one gets what was sent."""
        if self.conn.ended or (sock is not None and sock is not self.sock):
            return
        failure = self.lease.fail("send", error, counts=error.errno != errno.EACCES)
        self._close()
        if self.unanswered is not None:
            self._next(failure)
        else:
            self.conn.refuse(200, f"node: {failure.reason}")
            self.conn.end()

    def _close(self) -> None:
        if self.watcher is not None:
            self.watcher.close()
            self.watcher = None
        if self.sock is not None:
            self.sock.close()
            self.sock = None
        self.send = self._keep

    def _end(self) -> None:
        """The session has ended."""
        self._close()
        if self.dealet.responses and not self.answers and self.asked and self.conn.reason == "idle":
            # Anybody can send what a node rightly ignores: checks know better, where there are any.
            self.lease.fail(
                "answer", f"no answer within {self.idle_timeout:g} s", counts=not self.node.watched
            )
        self.lease.end()


def _header_of(conn: UDPXConn) -> bytes:
    """The header that tells a node who its client is."""
    if conn.src_host == UDS_HOST:
        return build_v2(None, None)
    return build_v2((conn.src_host, conn.src_port), conn.dst, datagram=True)
