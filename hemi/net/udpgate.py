"""Gates for datagrams: one listening socket each, with the sessions that began there.

Laws of this module:
- Datagrams are read in the hub, many at a time, and go to the session of their source by one look into a table. A
  source that has none yet is handed to a greenlet, in which cases and dealets may wait without stopping the others.
- The table is the listener's: at a reload the new gate reads, and sessions of the old one get what is theirs until they
  end.
- Whatever is not wanted is dropped without an answer, counted, and told to the log at most once a second: sources of
  datagrams can be forged, and neither the answers nor the log must become the weapon.
"""

from __future__ import annotations

from time import monotonic
from typing import TYPE_CHECKING, Any

import gevent
from gevent import get_hub
from gevent.event import Event

from hemi.library.sparing import Sparing
from hemi.listeners import Listener
from hemi.net.udpconn import UDPXConn
from hemi.net.udpport import SIZE, Info, answer_info, info_room
from hemi.proxy_protocol import SIGNATURE, Header, ProxyProtocolError, parse
from hemi.sockets import READ, SWEEP_INTERVAL, Sweeper

if TYPE_CHECKING:
    from hemi.net.udplistening import UDPXListening

__all__ = ["UDPXGate"]

BATCH = 64
"""Datagrams that are read before others get their turn."""

MOST_NEW = 1000
"""Sessions of which nobody has decided yet what happens with them."""


class UDPXGate:
    """Reads the datagrams of a listener."""

    def __init__(self, owner: UDPXListening, listener: Listener) -> None:
        self.owner = owner
        self.listener = listener
        self.sock = listener.sock
        self.is_uds = bool(listener.address.path)
        self.local = ("", 0) if self.is_uds else self.sock.getsockname()[:2]
        self.routes = listener.routes
        self.conns: set[UDPXConn] = set()
        self.dropped = 0
        """Datagrams that nobody wanted, or that could not be kept."""
        self.unsent = 0
        """Answers that the kernel did not take."""
        self._room = info_room(self.sock)
        self._newcomers: list[UDPXConn] = []
        self._deciding: dict[gevent.Greenlet[[], None], list[UDPXConn]] = {}
        self._sparing = Sparing()
        self._sweeper = Sweeper(self.conns)
        self._watcher: Any = None
        self._left = Event()
        """Set when a session has ended."""

    def __repr__(self) -> str:
        return f"<UDPXGate {self.listener.bound} sessions={len(self.conns)} dropped={self.dropped}>"

    def start(self) -> None:
        """Begins to read."""
        self.listener.reader = self
        self._sweeper.start()
        self._watcher = get_hub().loop.io(self.sock.fileno(), READ)
        plain = not (self._room or self.is_uds or self.owner.proxy_protocol)
        self._watcher.start(self._read_plain if plain else self._read)

    # Reading: in the hub

    def _read_plain(self) -> None:
        """Reads where neither the address that a datagram came to nor a PROXY header matters."""
        now = monotonic()
        get, recvfrom = self.routes.get, self.sock.recvfrom
        try:
            for _ in range(BATCH):
                data, peer = recvfrom(SIZE)
                conn = get(peer)
                if conn is None:
                    conn = self._begin(peer, peer, None, data, now)
                    if conn is None:
                        continue
                conn.feed(data, now)
        except BlockingIOError:
            pass
        except Exception as error:
            self.owner.stage.log.error("gate", f"reading datagrams at {self.listener.bound} failed", error)

    def _read(self) -> None:
        """Reads with all that there is to look at."""
        now = monotonic()
        try:
            for _ in range(BATCH):
                data, info, _, peer = self.sock.recvmsg(SIZE, self._room)
                if len(data) >= SIZE:
                    self.drop(now, "a datagram is larger than 65535 bytes")
                elif self.owner.expects_header(peer, self.is_uds):
                    self._unwrap(data, peer, info, now)
                else:
                    self._deliver((peer, info[0][2]) if info else peer, peer, info, data, now)
        except BlockingIOError:
            pass
        except Exception as error:
            self.owner.stage.log.error("gate", f"reading datagrams at {self.listener.bound} failed", error)

    def _deliver(
        self, key: Any, peer: Any, info: Info, data: bytes, now: float, header: Header | None = None
    ) -> UDPXConn | None:
        conn: UDPXConn | None = self.routes.get(key)
        if conn is None:
            conn = self._begin(key, peer, answer_info(info) if info else None, data, now)
            if conn is None:
                return None
            if header is not None:
                conn.believe(header)
        conn.feed(data, now)
        return conn

    def _unwrap(self, data: bytes, peer: Any, info: Info, now: float) -> None:
        """Takes a datagram of a proxy: with a PROXY header of version 2, or of the session that one has begun."""
        place = (peer, info[0][2]) if info else peer
        if not data.startswith(SIGNATURE):
            conn = self.routes.get(("last", place))
            if conn is not None and not conn.ended:
                conn.feed(data, now)
            else:
                self.drop(now, "a PROXY header of version 2 is missing", peer)
            return
        try:
            header = parse(data)
        except ProxyProtocolError as error:
            self.drop(now, str(error), peer)
            return
        if not isinstance(header, Header):
            self.drop(now, "its PROXY header does not end", peer)
            return
        client = (header.src_host, header.src_port, header.dst_host, header.dst_port)
        conn = self._deliver((place, client), peer, info, data[header.size :], now, header)
        if conn is not None and not conn.ended:
            self.routes["last", place] = conn

    # Sources without a session

    def _begin(self, key: Any, peer: Any, info: Info | None, data: bytes, now: float) -> UDPXConn | None:
        """A session for a new source, None when there is no room."""
        owner = self.owner
        if owner.is_full():
            self.drop(now, f"{owner.max_sessions} sessions are open", peer)
            return None
        if len(self._newcomers) + sum(map(len, self._deciding.values())) >= MOST_NEW:
            self.drop(now, f"{MOST_NEW} new sessions wait to be dealt with", peer)
            return None
        conn = UDPXConn(self, key, peer, info, data, now)
        self.routes[key] = conn
        self.conns.add(conn)
        if not self._newcomers:
            greenlet = gevent.Greenlet(self._decide)
            self._deciding[greenlet] = []
            greenlet.start()
        self._newcomers.append(conn)
        return conn

    def _decide(self) -> None:
        """Has the owner deal with the sources that are new; a greenlet for those that came together."""
        me = gevent.getcurrent()
        newcomers, self._newcomers = self._newcomers, []
        self._deciding[me] = newcomers  # type: ignore[index]
        try:
            for conn in newcomers:
                if not conn.ended:
                    self._decide_on(conn)
        finally:
            del self._deciding[me]  # type: ignore[arg-type]

    def _decide_on(self, conn: UDPXConn) -> None:
        try:
            self.owner.requests += 1
            self.owner.serve(conn)
        except Exception as error:
            conn.refuse(500, f"{type(error).__name__}: {error}")
            self.owner.stage.log.error("gate", f"a session of {conn.src_host} failed", error)
        if not conn.is_taken and not conn.ended:
            self.drop(monotonic(), conn.reason or "nobody deals with it", conn.peer)
            conn.end()

    def resume(self, old: UDPXConn, data: bytes, now: float) -> None:
        """Begins a new session for the source of one that has ended, with a datagram of it."""
        conn = self._begin(old.key, old.peer, None, data, now)
        if conn is not None:
            conn.inherit(old)
            conn.feed(data, now)

    def drop(self, now: float, reason: str, peer: Any = None) -> None:
        """Counts a datagram that is not passed on, and tells the log now and then."""
        self.dropped += 1
        more = self._sparing.admit(now)
        if more is not None:
            source = f" from {peer[0]}:{peer[1]}" if isinstance(peer, tuple) else ""
            also = f", and {more} others before" if more else ""
            self.owner.stage.log.warning(
                "gate",
                f"{self.owner.label} drops a datagram{source} at {self.listener.bound}: {reason}{also}",
            )

    def forget(self, conn: UDPXConn) -> None:
        """A session's call when it has ended."""
        self.conns.discard(conn)
        if self.routes.get(conn.key) is conn:
            del self.routes[conn.key]
        if self.owner.proxy_protocol and isinstance(conn.key, tuple):
            last = ("last", conn.key[0])
            if self.routes.get(last) is conn:
                del self.routes[last]
        if conn.is_taken and self.owner.record is not None:
            self.owner.record(conn)
        self._left.set()

    # Retiring

    def retire(self) -> None:
        """Reads no more: another gate does, at the same listener."""
        if self._watcher is not None:
            self._watcher.close()
            self._watcher = None
        if self.listener.reader is self:
            self.listener.reader = None

    def join(self, deadline: float) -> None:
        """Waits for the sessions until `deadline` (monotonic seconds), then ends what is left.

        Where another gate reads, that is until they are idle. Where nobody does, a session has ended when its last
        datagram was answered.
        """
        while self.conns:
            if self.listener.reader is None:
                for conn in [conn for conn in self.conns if not conn.asking]:
                    conn.end("stopped")
            seconds = self.owner.stage.time_left(deadline)
            if seconds <= 0 or not self.conns:
                break
            self._left.clear()
            self._left.wait(min(seconds, SWEEP_INTERVAL))
        for conn in list(self.conns):
            conn.end("stopped")
        gevent.killall(list(self._deciding), block=False)
        self._sweeper.stop()
