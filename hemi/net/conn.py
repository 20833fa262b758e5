"""Connections of layer 4, as cases, dealets and logs see them."""

from __future__ import annotations

from collections.abc import Callable
from time import monotonic, strftime
from typing import TYPE_CHECKING, Any, ClassVar

import gevent

from hemi.net.pace import Pace
from hemi.net.relay import Filter, Relay
from hemi.peers import UDS_HOST, peer_named, plain_host
from hemi.proxy_protocol import Endpoint, Header
from hemi.sockets import Channel, Cuttable, Peer
from hemi.tlshello import HANDSHAKE, HelloReader, MalformedHello

if TYPE_CHECKING:
    from hemi.net.gate import Gate
    from hemi.net.listening import TCPXListening

PIECE = 16384


class NetConn:
    """What connections and sessions of datagrams have in common.

    `status` and `reason` say what became of one, `started` and `ended` when (monotonic seconds; 0 while it lasts).
    """

    __slots__ = ("_at_end", "case_number", "ended", "reason", "src_host", "src_port", "started", "status")

    is_datagram: ClassVar[bool]

    case_number: int
    ended: float
    reason: str
    src_host: str
    src_port: int
    started: float
    status: int
    _at_end: list[Callable[[], None]] | None

    def line(self) -> str:
        """What it is, in a few words."""
        raise NotImplementedError

    def refuse(self, status: int, reason: str) -> None:
        """Notes why nobody deals with it; a connection is closed when the dealet returns True, a session dropped."""
        self.status, self.reason = status, reason

    def at_end(self, call: Callable[[], None]) -> None:
        """Has something called when it has ended."""
        if self._at_end is None:
            self._at_end = []
        self._at_end.append(call)

    def elapsed(self) -> str:
        """Seconds from its beginning to its end, or till now; for logs."""
        return f"{(self.ended or monotonic()) - self.started:.3f}"

    def local(self, form: str) -> str:
        """The local time, as strftime(3) writes it."""
        return strftime(form)


class TCPXConn(NetConn):
    """A connection that was accepted. `channel` reads and writes it, decrypted where TLS ends here.

    `src_host` and `src_port` are the client's, as a trusted PROXY header tells them. `status` is, for logs, 200 for
    what was dealt with, 403 refused, 404 without a case for it, 429 beyond a limit, 502 without a node, 400 broken;
    `reason` says why in words. Dealets set `backend`, `node`, `bytes_received` and `bytes_sent` (from and to the
    client), and `limit` the `paces` that a relay of it has to keep, from and to the client.
    """

    __slots__ = (
        "_buffer",
        "_dst",
        "_inspected",
        "backend",
        "bytes_received",
        "bytes_sent",
        "channel",
        "gate",
        "is_tls",
        "is_uds",
        "next_proto",
        "node",
        "owner",
        "paces",
        "server_name",
    )

    is_datagram = False

    def __init__(self, gate: Gate, channel: Channel, peer: Peer) -> None:
        self.gate = gate
        self.owner: TCPXListening = gate.owner
        self.channel = channel
        self.src_host, self.src_port = peer
        self.is_uds = peer.host == UDS_HOST
        self.is_tls = False
        self.server_name = ""
        self.next_proto = ""
        self.started = monotonic()
        self.ended = 0.0
        self.case_number = 0
        self.status = 200
        self.reason = ""
        self.backend = ""
        self.node = ""
        self.bytes_received = 0
        self.bytes_sent = 0
        self.paces: list[tuple[Pace | None, Pace | None]] = []
        self._dst: Endpoint | None = None
        self._buffer = b""
        self._inspected = False
        self._at_end = None

    def __repr__(self) -> str:
        return f"<TCPXConn {self.line()} from {self.src_host}:{self.src_port} status={self.status}>"

    @property
    def dst(self) -> Endpoint:
        """Host and port that the client connected to; of a Unix domain socket its path and 0."""
        if self._dst is None:
            try:
                name = self.channel.sock.getsockname()
            except OSError:  # it is closed already
                host, _, port = self.gate.listener.bound.rpartition(":")
                name = "" if self.is_uds else (host.strip("[]"), int(port))
            if isinstance(name, tuple):
                self._dst = plain_host(name[0]), name[1]
            else:
                self._dst = self.gate.listener.bound, 0
        return self._dst

    def believe(self, header: Header) -> None:
        """Takes over what a PROXY header says of the client."""
        if not header.is_known:
            return
        self.src_host, self.src_port = peer_named(header, Peer(self.src_host, self.src_port))
        self._dst = plain_host(header.dst_host), 0 if self.src_host == UDS_HOST else header.dst_port

    def secured(self) -> None:
        """Notes what was agreed on in a handshake here; nothing is left to be inspected."""
        info = self.channel.tls
        self._inspected = self.is_tls = True
        self.server_name, self.next_proto = info.server_name, info.alpn

    def inspect(self) -> TCPXConn:
        """Looks, once, whether the client talks TLS, and at its ClientHello; waits for it up to `inspect_timeout`.

        What is read is kept for whoever deals with the connection. Raises OSError.
        """
        if not self._inspected:
            self._inspected = True
            # No deadline of the channel: that would end it, and a client may well wait for the server to speak.
            with gevent.Timeout(self.owner.inspect_timeout, False):  # type: ignore[arg-type]
                self._read_hello()
        return self

    def _read_hello(self) -> None:
        hello = HelloReader()
        try:
            while data := self.channel.recv(PIECE):
                self._buffer += data
                if self._buffer[0] != HANDSHAKE:
                    return
                if hello.feed(data):
                    protocols = hello.alpn()
                    self.is_tls, self.server_name = True, hello.server_name
                    self.next_proto = ",".join(name.decode("latin-1") for name in protocols)
                    return
        except MalformedHello:
            return  # whatever it is, it is no TLS

    def taken(self) -> bytes:
        """What was read of the connection and not dealt with; it is the caller's then."""
        data, self._buffer = self._buffer, b""
        return data

    def relay(
        self,
        node: Channel,
        first: bytes,
        idle_timeout: float,
        ends_at: float,
        filters: tuple[Filter | None, Filter | None] = (None, None),
    ) -> None:
        """Relays between the client and a node, `first` to the node to begin with, until both sides have ended or their
        time is over (seconds that nothing moves, monotonic seconds); notes what was moved, and why it ended."""
        paces: Any = ((), ())
        if self.paces:
            paces = tuple(tuple(filter(None, one)) for one in zip(*self.paces, strict=True))
        relay = Relay(self.channel, node, idle_timeout, ends_at, paces, filters)
        self.watch(relay)
        try:
            relay.run(first)
        finally:
            self.unwatch(relay)
            self.bytes_received, self.bytes_sent = relay.moved
            self.reason = relay.reason

    def tls_text(self, name: str) -> str:
        """Something of the TLS that ends here, as text; "" where none does."""
        info = self.channel.tls
        return "" if info is None else str(getattr(info, name))

    def watch(self, member: Cuttable) -> None:
        """Has the deadline of something looked at, in addition to the channel's."""
        self.gate.members.add(member)

    def unwatch(self, member: Cuttable) -> None:
        """Ends that."""
        self.gate.members.discard(member)

    def end(self) -> None:
        """Closes the connection, and tells who wants to know. Idempotent."""
        self.channel.close()
        calls, self._at_end = self._at_end, None
        for call in calls or ():
            call()

    def line(self) -> str:
        """What it is, in a few words: `TLS db.example.com 10.0.0.1:5432 > 10.0.0.7:5432`."""
        host, port = self._dst or ("", 0)
        address = f"[{host}]:{port}" if ":" in host else f"{host}:{port}" if port else host
        kind = "TLS" if self.is_tls else "UDS" if self.is_uds else "TCP"
        words = (kind, self.server_name, address or self.gate.listener.bound)
        return " ".join(filter(None, words)) + (f" > {self.node}" if self.node else "")
