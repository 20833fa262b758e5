"""Gates: one listening socket of a server each, with the connections that came through it."""

from __future__ import annotations

import _socket
import math
import socket
from _socket import socket as RawSocket
from time import monotonic
from typing import TYPE_CHECKING, Any, TypeVar

import gevent
from gevent.event import Event

from hemi.acceptor import Acceptor
from hemi.listeners import Listener
from hemi.peers import peer_named, peer_of, read_header
from hemi.proxy_protocol import ProxyProtocolError
from hemi.sockets import Channel, Cuttable, Sweeper, is_broken
from hemi.stage import LOOK
from hemi.tlschannel import PLAIN_HTTP_ANSWER, HandshakeFailed, TLSChannel
from hemi.web.h1.conn import Server1Conn
from hemi.web.h2.conn import Server2Conn
from hemi.web.statuses import STATUS_LINES

if TYPE_CHECKING:
    from hemi.web.server import HTTPXServer

Conn = Server1Conn | Server2Conn
AnyConn = TypeVar("AnyConn", Server1Conn, Server2Conn)

OVERLOADED = STATUS_LINES[503] + b"content-length: 0\r\nretry-after: 1\r\nconnection: close\r\n\r\n"


class Gate:
    """Accepts connections and runs each in a greenlet of its own.

    `successor` is the gate of a newer stage on the same listener, which takes over what becomes idle.
    """

    def __init__(self, server: HTTPXServer, listener: Listener) -> None:
        self.server = server
        self.listener = listener
        self.conns: set[Conn] = set()
        self.members: set[Cuttable] = set()
        """What has deadlines: channels, and connections of HTTP/2."""
        self.greenlets: dict[gevent.Greenlet[Any, Any], RawSocket] = {}
        self.closing = False
        self.successor: Gate | None = None
        self._acceptor = Acceptor(listener, self._accepted, self._log, self._must_wait)
        self._sweeper = Sweeper(self.members)
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
        self.greenlets[greenlet] = sock
        greenlet.start()

    def connect(self) -> socket.socket:
        """Connects a client within this process, from 127.0.0.1 for all the server knows; returns its socket."""
        theirs, ours = _socket.socketpair()
        ours.setblocking(False)
        self._accepted(ours, ("127.0.0.1", 0))
        return socket.socket(fileno=theirs.detach())

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
        self.members.add(channel)
        conn: Conn | None = None
        try:
            peer = peer_of(address)
            if server.proxy_protocol and server.is_proxy(peer.host):
                channel.deadline = monotonic() + server.handshake_timeout
                peer = peer_named(read_header(channel), peer)
                channel.deadline = math.inf
            if server.tls:
                self.members.discard(channel)
                channel = secure = TLSChannel.over(channel)
                self.members.add(channel)
                secure.handshake(server.tls_sites, server.handshake_timeout, plain_answer=PLAIN_HTTP_ANSWER)
            self.set_pace(channel)
            if self._talks_h2(channel):
                conn = self._begin(Server2Conn(self, channel, peer))
                conn.serve()
            else:
                conn = first = self._begin(Server1Conn(self, channel, peer))
                first.serve()
                if first.preface:  # it was HTTP/2 after all, by prior knowledge
                    self.conns.discard(first)
                    conn = self._begin(Server2Conn(self, channel, peer))
                    conn.serve(first.preface)
        except HandshakeFailed as error:
            if not error.quiet:
                server.stage.log.info("tls", f"the handshake with {_name_of(address)} failed: {error}")
        except OSError as error:
            if not is_broken(error):
                server.stage.log.warning("gate", f"a connection from {_name_of(address)} failed", error)
        except (ProxyProtocolError, EOFError) as error:
            server.stage.log.info("gate", f"{_name_of(address)} is refused: {error}")
        except Exception as error:
            server.stage.log.error("gate", f"a connection from {_name_of(address)} failed", error)
        finally:
            gate = conn.gate if conn is not None else self  # another one after a reload
            if conn is not None:
                gate.conns.discard(conn)
                conn.close()
                if isinstance(conn, Server2Conn):
                    gate.members.discard(conn)
            channel.close()
            gate.members.discard(channel)
            gate.greenlets.pop(gevent.getcurrent(), None)  # type: ignore[call-overload]
            gate._left.set()

    def _talks_h2(self, channel: Channel) -> bool:
        """Whether the connection is HTTP/2 from its first byte: by ALPN, or because nothing else is served."""
        protocols = self.server.protocols
        if channel.tls is not None and channel.tls.alpn:
            return bool(channel.tls.alpn == "h2")
        return "http/1.1" not in protocols

    def _begin(self, conn: AnyConn) -> AnyConn:
        """Takes a new connection in."""
        trusted = self.server.trusted
        conn.trusted = bool(trusted) and conn.peer.host in trusted
        conn.greenlet = gevent.getcurrent()
        self.conns.add(conn)
        if isinstance(conn, Server2Conn):
            self.members.add(conn)
        return conn

    def set_pace(self, channel: Channel) -> None:
        """Tells a channel how fast its peer must be."""
        server = self.server
        channel.write_timeout = server.write_timeout
        channel.least_taken = int(server.write_timeout * server.min_rate)

    # Retiring

    def hand_over(self, conn: Conn) -> None:
        """Gives a connection between two requests to the successor."""
        heir = self.successor
        if heir is None:
            return
        while heir.successor is not None:  # it has retired meanwhile, too
            heir = heir.successor
        self.conns.discard(conn)
        self.members.discard(conn.channel)
        heir.conns.add(conn)
        heir.members.add(conn.channel)
        if conn.greenlet in self.greenlets:
            heir.greenlets[conn.greenlet] = self.greenlets.pop(conn.greenlet)
            self._left.set()
        conn.until += heir.server.keepalive_age - conn.server.keepalive_age
        conn.gate, conn.server = heir, heir.server
        heir.set_pace(conn.channel)
        conn.trusted = bool(heir.server.trusted) and conn.peer.host in heir.server.trusted
        if isinstance(conn, Server2Conn):
            self.members.discard(conn)
            heir.members.add(conn)
            conn.forget()

    def retire(self, successor: Gate) -> None:
        """Lets the successor accept from now on. Idle connections move to it, those of HTTP/1 also when they become
        idle; those of HTTP/2, which may never be, are told to come again (RFC 9113 §6.8)."""
        self.successor = successor
        self._acceptor.stop()
        for conn in list(self.conns):
            if conn.idle:
                self.hand_over(conn)
            elif isinstance(conn, Server2Conn):
                conn.drain()

    def close(self) -> None:
        """Accepts no more; connections end with their current or next response, idle ones soon. Idempotent."""
        if self.successor is None:
            self._acceptor.finish()
        self._acceptor.stop()
        if self.successor is None:
            self.closing = True
            for conn in list(self.conns):
                conn.drain()

    def join(self, deadline: float) -> None:
        """Waits for the connections until `deadline` (monotonic seconds), then kills what is left."""
        stage = self.server.stage
        while self.greenlets and (seconds := stage.time_left(deadline)) > 0:
            self._left.clear()
            self._left.wait(min(seconds, LOOK))
        left = list(self.greenlets)
        if left:
            self._log(f"{len(left)} connections on {self.listener.bound} are cut at the end of the drain")
            gevent.killall(left, block=True, timeout=1.0)
        for greenlet in left:
            if greenlet in self.greenlets and greenlet.dead:  # killed before it could begin
                self.greenlets.pop(greenlet).close()
        self._sweeper.stop()


def _name_of(address: Any) -> str:
    """What the logs call the other end of an accepted socket."""
    host, port = peer_of(address)
    if not port:
        return host
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
