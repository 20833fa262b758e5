"""Gates: one listening socket each, with the connections that came through it."""

from __future__ import annotations

import math
from _socket import socket as RawSocket
from time import monotonic
from typing import TYPE_CHECKING, Any

import gevent
from gevent import get_hub
from gevent.event import Event

from hemi.acceptor import Acceptor
from hemi.listeners import Listener
from hemi.net.conn import TCPXConn
from hemi.peers import peer_of, read_header
from hemi.proxy_protocol import ProxyProtocolError
from hemi.sockets import Channel, Cuttable, Sweeper, is_broken
from hemi.stage import LOOK
from hemi.tlschannel import HandshakeFailed, TLSChannel

if TYPE_CHECKING:
    from hemi.net.listening import TCPXListening

SPARE = 32
"""How many greenlets without a connection are kept."""

COMPLAINT_INTERVAL = 1.0
"""Seconds between two lines about connections that are turned away."""


class Gate:
    """Accepts connections and runs each in a greenlet of its own."""

    def __init__(self, owner: TCPXListening, listener: Listener) -> None:
        self.owner = owner
        self.listener = listener
        self.members: set[Cuttable] = set()  # whose deadlines are looked at
        self.greenlets: dict[gevent.Greenlet[Any, Any], RawSocket] = {}
        self.refused = 0
        """Connections that were turned away because there were too many."""
        self._spare: list[Any] = []  # greenlets that wait for a connection
        self._retired = False
        self._complained = -math.inf
        self._acceptor = Acceptor(listener, self._accepted, self._warn, self._must_wait)
        self._sweeper = Sweeper(self.members)
        self._left = Event()
        """Set when a connection has ended."""

    def __repr__(self) -> str:
        return f"<Gate {self.listener.bound} conns={len(self.greenlets)}>"

    def start(self) -> None:
        """Begins to accept."""
        self._sweeper.start()
        self._acceptor.start()

    def _warn(self, message: str) -> None:
        self.owner.stage.log.warning("gate", message)

    def _must_wait(self) -> bool:
        return self.owner.overload == "pause" and self.owner.is_full()

    # Connections

    def _accepted(self, sock: RawSocket, address: Any) -> None:
        if self.owner.is_full():
            self.owner.turn_away(sock)
            self._turned_away()
            return
        if self._spare:
            greenlet = self._spare.pop()
            self.greenlets[greenlet] = sock
            get_hub().loop.run_callback(self._hand_over, greenlet, (sock, address))
        else:
            greenlet = gevent.Greenlet(self._work, sock, address)
            self.greenlets[greenlet] = sock
            greenlet.start()

    def _hand_over(self, greenlet: Any, job: tuple[RawSocket, Any]) -> None:
        if not greenlet.dead:
            greenlet.switch(job)

    def _work(self, sock: RawSocket, address: Any) -> None:
        """Serves one connection after another: a tenth of the time of a short one would go into new greenlets, for
        whose stacks Python asks the kernel each time."""
        me, switch = gevent.getcurrent(), get_hub().switch
        while True:
            self._serve(sock, address)
            sock = address = None  # type: ignore[assignment]  # it must not be kept
            if self._retired or len(self._spare) >= SPARE:
                return
            self._spare.append(me)
            sock, address = switch()

    def _turned_away(self) -> None:
        self.refused += 1
        now = monotonic()
        if now - self._complained >= COMPLAINT_INTERVAL:
            self._complained = now
            self._warn(
                f"{self.owner.label} turns connections away: {self.owner.max_concurrent_conns} are open, "
                f"{self.refused} were refused so far"
            )

    def _serve(self, sock: RawSocket, address: Any) -> None:
        """The life of a connection."""
        owner = self.owner
        channel = Channel(sock, owner.write_timeout)
        conn = owner.conn_class(self, channel, peer_of(address))
        self.members.add(channel)
        try:
            if owner.expects_header(conn):
                channel.deadline = monotonic() + owner.handshake_timeout
                conn.believe(read_header(channel))
                channel.deadline = math.inf
            if owner.tls:
                self.members.discard(channel)
                conn.channel = secure = TLSChannel.over(channel)
                self.members.add(secure)
                secure.handshake(owner.tls_sites, owner.handshake_timeout)
                conn.secured()
            owner.requests += 1
            owner.serve(conn)
        except HandshakeFailed as error:
            conn.refuse(400, str(error))
            if not error.quiet:
                self._tell(conn, f"the TLS handshake failed: {error}")
        except (ProxyProtocolError, EOFError) as error:
            conn.refuse(400, str(error))
            self._tell(conn, f"is refused: {error}")
        except OSError as error:
            conn.refuse(400, "the client has gone")
            if not is_broken(error):
                owner.stage.log.warning("gate", f"a connection from {conn.src_host} failed", error)
        except Exception as error:
            conn.refuse(500, f"{type(error).__name__}: {error}")
            owner.stage.log.error("gate", f"a connection from {conn.src_host} failed", error)
        finally:
            self._end(conn)

    def _tell(self, conn: TCPXConn, what: str) -> None:
        self.owner.stage.log.info("gate", f"{conn.src_host} at {self.listener.bound}: {what}")

    def _end(self, conn: TCPXConn) -> None:
        conn.ended = monotonic()
        try:
            if self.owner.record is not None:
                self.owner.record(conn)
            conn.end()
        finally:
            self.members.discard(conn.channel)
            self.greenlets.pop(gevent.getcurrent(), None)  # type: ignore[call-overload]
            self._left.set()

    # Retiring

    def retire(self) -> None:
        """Accepts no more: another gate does, at the same listener."""
        self._acceptor.stop()
        self._let_go()

    def _let_go(self) -> None:
        """Ends the greenlets without a connection; those that have one end with it."""
        self._retired = True
        spare, self._spare = self._spare, []
        gevent.killall(spare, block=False)

    def close(self) -> None:
        """Accepts no more: the socket is about to be given back, and what waits in its queue is served first."""
        self._acceptor.finish()

    def join(self, deadline: float) -> None:
        """Waits for the connections until `deadline` (monotonic seconds), then kills what is left."""
        self._let_go()
        stage = self.owner.stage
        while self.greenlets and (seconds := stage.time_left(deadline)) > 0:
            self._left.clear()
            self._left.wait(min(seconds, LOOK))
        left = list(self.greenlets)
        if left:
            self._warn(f"{len(left)} connections on {self.listener.bound} are cut at the end of the drain")
            gevent.killall(left, block=True, timeout=1.0)
        for greenlet in left:
            if greenlet in self.greenlets and greenlet.dead:  # killed before it could begin
                self.greenlets.pop(greenlet).close()
        self._sweeper.stop()
