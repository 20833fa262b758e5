"""Sessions: the datagrams of one source and the answers to it, as cases, dealets and logs see them."""

from __future__ import annotations

import math
from collections.abc import Callable
from time import monotonic
from typing import TYPE_CHECKING, Any

from hemi.net.conn import NetConn
from hemi.net.udpport import LOST, Info, host_in
from hemi.peers import UDS_HOST, plain_host
from hemi.proxy_protocol import Endpoint, Header

if TYPE_CHECKING:
    from hemi.net.udpgate import UDPXGate
    from hemi.net.udplistening import UDPXListening

__all__ = ["Feed", "UDPXConn"]

Feed = Callable[[bytes, float], None]
"""Takes a datagram of the client, with the time (monotonic seconds)."""

MOST_HELD = 16
"""Datagrams that are kept while nobody has decided what happens with them …"""

MOST_HELD_BYTES = 131072
"""… and bytes of them. What comes beyond is lost."""

SHOWN = 16
"""Bytes of the first datagram that conditions may look at."""


class UDPXConn(NetConn):
    """The datagrams of one source. Whoever deals with them calls `take` and has its function called with each, from
    the hub: it must not wait. Answers go out by `reply`, and `end` ends the session.

    `deadline` (monotonic seconds) is when it ends by itself, which whoever takes it moves on. `src_host` and `src_port`
    are the client's, as a trusted PROXY header tells them. `status` is, for logs, 200, or 502 without a node; `reason`
    says why it ended in words. Dealets set `backend` and `node`.
    """

    __slots__ = (
        "_dst",
        "_held",
        "_info",
        "_sock",
        "asking",
        "backend",
        "bytes_received",
        "bytes_sent",
        "datagrams_received",
        "datagrams_sent",
        "deadline",
        "feed",
        "first_bytes",
        "gate",
        "is_taken",
        "is_uds",
        "key",
        "node",
        "owner",
        "peer",
        "size",
    )

    is_datagram = True

    def __init__(
        self, gate: UDPXGate, key: Any, peer: Any, info: Info | None, first: bytes, now: float
    ) -> None:
        self.gate = gate
        self.owner: UDPXListening = gate.owner
        self.key = key
        self.peer = peer
        self.is_uds = gate.is_uds
        if self.is_uds:
            self.src_host, self.src_port = UDS_HOST, 0
        else:
            self.src_host, self.src_port = plain_host(peer[0]), peer[1]
        self.size = len(first)
        self.first_bytes = first[:SHOWN]
        self.started = now
        self.deadline = math.inf
        self.feed: Feed = self._hold
        self.is_taken = False
        self.ended = 0.0
        self.asking = True
        """The client said something since the last answer."""
        self.case_number = 0
        self.status = 200
        self.reason = ""
        self.backend = ""
        self.node = ""
        self.bytes_received = self.bytes_sent = 0
        self.datagrams_received = self.datagrams_sent = 0
        self._sock = gate.sock
        self._info = info
        self._dst: Endpoint | None = None
        self._held: list[bytes] = []
        self._at_end = None

    def __repr__(self) -> str:
        return f"<UDPXConn {self.line()} from {self.src_host}:{self.src_port} status={self.status}>"

    @property
    def dst(self) -> Endpoint:
        """Host and port that the client sent to; of a Unix domain socket its path and 0."""
        if self._dst is None:
            if self.is_uds:
                self._dst = self.gate.listener.bound, 0
            else:
                host, port = self.gate.local
                self._dst = plain_host(host_in(self._info) or host), port
        return self._dst

    def believe(self, header: Header) -> None:
        """Takes over what a PROXY header says of the client."""
        if header.is_known and header.transport in ("unix", "unixgram"):
            self.src_host, self.src_port = UDS_HOST, 0
            self._dst = header.dst_host, 0
        elif header.is_known:
            self.src_host, self.src_port = plain_host(header.src_host), header.src_port
            self._dst = plain_host(header.dst_host), header.dst_port

    def inherit(self, old: UDPXConn) -> None:
        """Takes over who the client is, and where it sent to."""
        self.src_host, self.src_port = old.src_host, old.src_port
        self._info, self._dst = old._info, old._dst

    # The client's datagrams

    def _hold(self, data: bytes, now: float) -> None:
        """Keeps a datagram until somebody takes the session."""
        held = self._held
        if len(held) < MOST_HELD and sum(map(len, held)) + len(data) <= MOST_HELD_BYTES:
            held.append(data)
        else:
            self.gate.drop(now, "too many came before it was known where to")

    def take(self, feed: Feed, deadline: float) -> None:
        """Has `feed` called with each datagram, from now on and those that came before."""
        self.feed = feed
        self.deadline = deadline
        self.is_taken = True
        held, self._held = self._held, []
        now = monotonic()
        for data in held:
            if not self.ended:
                feed(data, now)

    # Answers

    def reply(self, data: bytes) -> None:
        """Sends a datagram to the client, from the address to which it has sent. What cannot be sent is lost."""
        try:
            if self._info is None:
                self._sock.sendto(data, self.peer)
            else:
                self._sock.sendmsg((data,), self._info, 0, self.peer)
        except OSError as error:
            self._unsent(error)
            return
        self.asking = False
        self.bytes_sent += len(data)
        self.datagrams_sent += 1

    def _unsent(self, error: OSError) -> None:
        if error.errno in LOST or not self.is_uds:
            self.gate.unsent += 1
        else:
            self.end("the client has gone")  # the name of a Unix domain socket leads nowhere any more

    # Ending

    def cut(self, now: float) -> None:
        """The sweeper's call when the deadline has passed."""
        self.end("idle")

    def end(self, reason: str = "") -> None:
        """Ends the session, and tells who wants to know. Idempotent."""
        if self.ended:
            return
        self.ended = monotonic()
        self.reason = self.reason or reason
        self.gate.forget(self)
        calls, self._at_end = self._at_end, None
        for call in calls or ():
            call()

    def line(self) -> str:
        """What it is, in a few words: `UDP 10.0.0.1:53 > 10.0.0.7:53`."""
        host, port = self.dst
        address = f"[{host}]:{port}" if ":" in host else f"{host}:{port}" if port else host
        return f"{'UDS' if self.is_uds else 'UDP'} {address}" + (f" > {self.node}" if self.node else "")
