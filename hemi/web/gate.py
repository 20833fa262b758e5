"""Gates: one listening socket of a server each, with the connections that came through it."""

from __future__ import annotations

import math
import socket
from _socket import socket as RawSocket
from time import monotonic
from typing import TYPE_CHECKING, Any

import gevent
from gevent.event import Event

from hemi.peers import peer_named, peer_of, read_header
from hemi.proxy_protocol import ProxyProtocolError
from hemi.sockets import Acceptor, Channel, Listener, Sweeper, is_broken
from hemi.tlschannel import PLAIN_HTTP_ANSWER, HandshakeFailed, TLSChannel
from hemi.web.h1.conn import FAREWELL, Server1Conn
from hemi.web.statuses import STATUS_LINES

if TYPE_CHECKING:
    from hemi.web.server import HTTPXServer

OVERLOADED = STATUS_LINES[503] + b"content-length: 0\r\nretry-after: 1\r\nconnection: close\r\n\r\n"


class Gate:
    """Accepts connections and runs each in a greenlet of its own.

    `successor` is the gate of a newer stage on the same listener, which takes over what becomes idle.
    """

    def __init__(self, server: HTTPXServer, listener: Listener) -> None:
        self.server = server
        self.listener = listener
        self.conns: set[Server1Conn] = set()
        self.channels: set[Channel] = set()
        self.greenlets: set[gevent.Greenlet[Any, Any]] = set()
        self.closing = False
        self.successor: Gate | None = None
        self._acceptor = Acceptor(listener, self._accepted, self._log, self._must_wait)
        self._sweeper = Sweeper(self.channels)
        self._left = Event()
        """Set when a connection has ended, or has been handed over."""

    def __repr__(self) -> str:
        return f"<Gate {self.listener.bound} conns={len(self.conns)}>"

    def start(self) -> None:
        """Begins to accept."""
        self._sweeper.start()
        self._acceptor.start()

    def _log(self, message: str) -> None:
        self.server.stage.log.warning("gate", message)

    def _must_wait(self) -> bool:
        return self.server.overload == "pause" and self.server.is_full()

    # Connections

    def _accepted(self, sock: RawSocket, address: Any) -> None:
        server = self.server
        if server.is_full():
            self._turn_away(sock)
            return
        greenlet = gevent.Greenlet(self._serve, sock, address)
        self.greenlets.add(greenlet)
        greenlet.start()

    def _turn_away(self, sock: RawSocket) -> None:
        """Answers 503 without spending a greenlet; a client of TLS just sees the end."""
        if not self.server.tls:
            try:
                sock.send(OVERLOADED)
                sock.shutdown(socket.SHUT_WR)
                sock.recv(65536)  # unread, it would make close() send a reset, which destroys the answer
            except OSError:
                pass
        sock.close()

    def _serve(self, sock: RawSocket, address: Any) -> None:
        """The life of a connection."""
        server = self.server
        channel = Channel(sock, server.write_timeout)
        self.channels.add(channel)
        conn: Server1Conn | None = None
        try:
            peer = peer_of(address)
            if server.proxy_protocol and peer.host in server.proxies:
                channel.deadline = monotonic() + server.handshake_timeout
                peer = peer_named(read_header(channel), peer)
                channel.deadline = math.inf
            if server.tls:
                self.channels.discard(channel)
                channel = secure = TLSChannel.over(channel)
                self.channels.add(channel)
                secure.handshake(server.tls_sites, server.handshake_timeout, plain_answer=PLAIN_HTTP_ANSWER)
            self.set_pace(channel)
            conn = Server1Conn(self, channel, peer)
            conn.trusted = bool(server.trusted) and peer.host in server.trusted
            conn.greenlet = gevent.getcurrent()
            self.conns.add(conn)
            conn.serve()
        except HandshakeFailed as error:
            if not error.quiet:
                server.stage.log.info("tls", f"the handshake with {address} failed: {error}")
        except OSError as error:
            if not is_broken(error):
                server.stage.log.warning("gate", f"a connection from {address} failed", error)
        except (ProxyProtocolError, EOFError) as error:
            server.stage.log.info("gate", f"{address} is refused: {error}")
        except Exception as error:
            server.stage.log.error("gate", f"a connection from {address} failed", error)
        finally:
            gate = conn.gate if conn is not None else self  # another one after a reload
            if conn is not None:
                gate.conns.discard(conn)
                conn.close()
            channel.close()
            gate.channels.discard(channel)
            gate.greenlets.discard(gevent.getcurrent())
            gate._left.set()

    def set_pace(self, channel: Channel) -> None:
        """Tells a channel how fast its peer must be."""
        server = self.server
        channel.write_timeout = server.write_timeout
        channel.least_taken = int(server.write_timeout * server.min_rate)

    # Retiring

    def hand_over(self, conn: Server1Conn) -> None:
        """Gives a connection between two requests to the successor."""
        heir = self.successor
        if heir is None:
            return
        while heir.successor is not None:  # it has retired meanwhile, too
            heir = heir.successor
        self.conns.discard(conn)
        self.channels.discard(conn.channel)
        heir.conns.add(conn)
        heir.channels.add(conn.channel)
        if conn.greenlet is not None:
            self.greenlets.discard(conn.greenlet)
            heir.greenlets.add(conn.greenlet)
            self._left.set()
        conn.gate, conn.server = heir, heir.server
        heir.set_pace(conn.channel)
        conn.trusted = bool(heir.server.trusted) and conn.peer.host in heir.server.trusted

    def retire(self, successor: Gate) -> None:
        """Lets the successor accept from now on; idle connections move to it, the others when they become idle."""
        self.successor = successor
        self._acceptor.stop()
        for conn in [conn for conn in self.conns if conn.idle]:
            self.hand_over(conn)

    def close(self) -> None:
        """Accepts no more; connections end with their current or next response, idle ones soon. Idempotent."""
        self._acceptor.stop()
        if self.successor is None:
            self.closing = True
            until = monotonic() + FAREWELL
            for conn in self.conns:
                if conn.idle:
                    conn.channel.deadline = min(conn.channel.deadline, until)

    def join(self, deadline: float) -> None:
        """Waits for the connections until `deadline` (monotonic seconds), then kills what is left."""
        while self.greenlets and (seconds := deadline - monotonic()) > 0:
            self._left.clear()
            self._left.wait(seconds)
        left = list(self.greenlets)
        if left:
            self._log(f"{len(left)} connections on {self.listener.bound} are cut at the end of the drain")
            gevent.killall(left, block=True, timeout=1.0)
        self._sweeper.stop()
