"""UDP ASSOCIATE of SOCKS5 (RFC 1928 §7): datagrams of a client to wherever its rules allow, and the answers to them.

Laws of this module:
- Only the address that the TCP connection came from is heard, and of it only one port.
- Each datagram is judged by the rules, as a CONNECT would be; the address that was judged is the one that gets it.
- Only hosts that the client has sent to are heard: what nobody asked for is dropped.
- An association lives as long as its TCP connection, and no longer than the limits of the server.
- Nothing here waits but for the resolver, in a greenlet, while a few datagrams are kept.
"""

from __future__ import annotations

import math
import socket
from _socket import socket as RawSocket
from collections import OrderedDict
from time import monotonic
from typing import TYPE_CHECKING, Any

import gevent
from gevent import get_hub

from hemi.builtin.servers.forwarding import ForwardConn, NotAllowed
from hemi.builtin.servers.socks_bind import bind_within
from hemi.library.sparing import Sparing
from hemi.net.rules import clean_host, parse_address
from hemi.net.socks import Malformed, encode_datagram_head, parse_datagram
from hemi.net.udpport import SIZE
from hemi.peers import plain_host
from hemi.resolv import ResolveError
from hemi.resolvconf import literal_family
from hemi.sockets import READ

if TYPE_CHECKING:
    from hemi.builtin.servers.socks_server import SocksServer

__all__ = ["Association"]

BATCH = 64
"""Datagrams that are read before others get their turn."""

MOST_GOALS = 1024
"""Hosts and ports that are remembered for an association; the one used longest ago goes."""

MOST_HELD = 8
"""Datagrams that wait for the address of a host."""

MOST_ASKED = 32
"""Names of an association that are asked for at a time."""

GOAL_TTL = 60.0
"""Seconds after which a host is judged and resolved anew."""

LOOKS = 4
"""How often to look whether it is idle, within its idle_timeout: it ends at most a quarter late."""

PIECE = 4096

_KIND = socket.SOCK_DGRAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC


class _Goal:
    """A host and port that the client sends to; `sockaddr` is None while nobody knows it, or it is not allowed."""

    __slots__ = ("due", "held", "sockaddr")

    def __init__(self, now: float) -> None:
        self.due = now + GOAL_TTL
        self.sockaddr: tuple[str, int] | None = None
        self.held: list[bytes] | None = None
        """What waits for the resolver; None when nothing is waited for."""


class Association:
    """The datagrams of one client. `deadline` and `cut` are for a `Sweeper`. Raises OSError when there is no port."""

    def __init__(self, server: SocksServer, conn: ForwardConn, host: str, port: int) -> None:
        self.server = server
        self.conn = conn
        self.dropped = 0
        self.reason = ""
        self.ends_at = monotonic() + server.max_lifetime
        self.deadline = math.inf
        self._client: Any = None
        self._port = (
            port if host == conn.src_host else 0
        )  # behind a NAT, a client does not know its own address
        self._goals: OrderedDict[tuple[str, int], _Goal] = OrderedDict()
        self._heard: OrderedDict[tuple[str, int], None] = OrderedDict()
        self._far: dict[int, RawSocket] = {}
        self._watchers: list[Any] = []
        self._asking: set[gevent.Greenlet[Any, Any]] = set()
        self._sparing = Sparing()
        self._moved = True
        self._moved_at = monotonic()
        local = str(conn.channel.sock.getsockname()[0])
        self._near = self._open(socket.AF_INET6 if ":" in local else socket.AF_INET, local)

    def __repr__(self) -> str:
        return f"<Association of {self.conn.peer} hosts={len(self._heard)} dropped={self.dropped}>"

    def _open(self, family: int, local: str = "") -> RawSocket:
        sock = RawSocket(family, _KIND)
        try:
            if local:
                bind_within(sock, local, self.server.relay_ports)
            else:
                sock.bind(("::" if family == socket.AF_INET6 else "0.0.0.0", 0))
        except BaseException:
            sock.close()
            raise
        watcher = get_hub().loop.io(sock.fileno(), READ)
        watcher.start(self._read, sock, self._from_host if not local else self._from_client)
        self._watchers.append(watcher)
        return sock

    @property
    def address(self) -> tuple[str, int]:
        """Where the client is to send its datagrams."""
        host, port = self._near.getsockname()[:2]
        return plain_host(str(host)), int(port)

    def run(self) -> None:
        """Relays until the TCP connection ends, or the time is over."""
        self._look_again(monotonic())
        self.conn.watch(self)
        try:
            while self.conn.channel.recv(PIECE):
                pass  # there is nothing to say on it
        except OSError:
            pass
        finally:
            self.close()
            self.conn.unwatch(self)
            self.conn.reason = self.reason

    def cut(self, now: float) -> None:
        """The sweeper's call: ends it when nothing has moved, or its time is over."""
        if self._moved:
            self._moved, self._moved_at = False, now
        if now < self.ends_at and now - self._moved_at < self.server.idle_timeout:
            self._look_again(now)
            return
        self.reason = "lifetime" if now >= self.ends_at else "idle"
        self.deadline = math.inf
        try:
            self.conn.channel.sock.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass

    def _look_again(self, now: float) -> None:
        self.deadline = min(now + self.server.idle_timeout / LOOKS, self.ends_at)

    def close(self) -> None:
        """Ends it. Idempotent."""
        watchers, self._watchers = self._watchers, []
        for watcher in watchers:
            watcher.close()
        gevent.killall(list(self._asking), block=False)
        for sock in (self._near, *self._far.values()):
            sock.close()

    # Reading: in the hub

    def _read(self, sock: RawSocket, take: Any) -> None:
        for _ in range(BATCH):
            try:
                data, peer = sock.recvfrom(SIZE)
                take(data, peer)
            except BlockingIOError:
                return
            except OSError:
                return  # closed, or an error of a datagram before
            except Exception as error:
                self.server.stage.log.error("forward", f"a datagram of {self.conn.peer} failed", error)

    def _drop(self, why: str) -> None:
        self.dropped += 1
        more = self._sparing.admit(monotonic())
        if more is not None:
            also = f", and {more} others before" if more else ""
            self.server.stage.log.info(
                "forward", f"{self.server.label}: {self.conn.peer}: a datagram is dropped: {why}{also}"
            )

    # From the client

    def _from_client(self, data: bytes, peer: Any) -> None:
        if peer != self._client and not self._is_client(peer):
            self._drop(f"it comes from {peer[0]}:{peer[1]}")
            return
        try:
            fragment, host, port, content = parse_datagram(data)
        except Malformed as error:
            self._drop(str(error))
            return
        if fragment:  # who does not put fragments together must drop them (RFC 1928 §7)
            self._drop("it is a fragment")
            return
        if len(content) > self.server.max_datagram_size:
            self._drop(f"it has {len(content)} bytes")
            return
        self._client = peer
        self._moved = True
        now = monotonic()
        goal = self._goals.get((host, port))
        if goal is None or (goal.due < now and goal.held is None):
            goal = self._judge(host, port, now)
        else:
            self._goals.move_to_end((host, port))
        if goal.sockaddr is not None:
            self._send(goal.sockaddr, content)
        elif goal.held is None:
            self._drop(f"no rule allows {host}:{port}, or it has no address")
        elif len(goal.held) < MOST_HELD:
            goal.held.append(content)
        else:
            self._drop(f"too many wait for the address of {host}")

    def _is_client(self, peer: Any) -> bool:
        """Whether a source may be the client: its first datagram decides on the port."""
        return (
            self._client is None
            and plain_host(peer[0]) == self.conn.src_host
            and (not self._port or peer[1] == self._port)
        )

    def _judge(self, host: str, port: int, now: float) -> _Goal:
        """Finds out whether the client may send there, and where that is."""
        goal = self._goals[host, port] = _Goal(now)
        if len(self._goals) > MOST_GOALS:
            self._goals.popitem(last=False)
        try:
            name = clean_host(host)
            permit = self.server.permit(self.conn, name, port)
        except (ValueError, NotAllowed):
            return goal
        if literal_family(name) is not None:
            if permit(name):
                goal.sockaddr = str(parse_address(name)), port
        elif len(self._asking) < MOST_ASKED:
            goal.held = []
            greenlet = gevent.Greenlet(self._ask, name, port, goal)
            self._asking.add(greenlet)
            greenlet.start()
        return goal

    def _ask(self, name: str, port: int, goal: _Goal) -> None:
        """Asks for the address of a name, and sends what waits for it."""
        try:
            goal.sockaddr = str(parse_address(self.server.addresses_of(self.conn, name, port)[0])), port
        except (NotAllowed, ResolveError) as error:
            self._drop(f"{name}: {error}")
        finally:
            held, goal.held = goal.held, None
            self._asking.discard(gevent.getcurrent())
        for content in held or ():
            if goal.sockaddr is not None:
                self._send(goal.sockaddr, content)

    def _send(self, to: tuple[str, int], content: bytes) -> None:
        family = socket.AF_INET6 if ":" in to[0] else socket.AF_INET
        try:
            sock = self._far.get(family)
            if sock is None:
                sock = self._far[family] = self._open(family)
            if to not in self._heard:
                if len(self._heard) >= MOST_GOALS:
                    self._heard.popitem(last=False)
                self._heard[to] = None
            else:
                self._heard.move_to_end(to)
            sock.sendto(content, to)
        except OSError as error:
            self._drop((error.strerror or str(error)).lower())
            return
        self.conn.bytes_received += len(content)

    # From hosts

    def _from_host(self, data: bytes, peer: Any) -> None:
        source = peer[0].partition("%")[0], peer[1]
        if source not in self._heard:
            self._drop(f"nobody asked {source[0]}:{source[1]} for it")
        elif len(data) > self.server.max_datagram_size:
            self._drop(f"it has {len(data)} bytes")
        else:
            self._moved = True
            try:
                self._near.sendto(encode_datagram_head(*source) + data, self._client)
            except OSError as error:
                self._drop((error.strerror or str(error)).lower())
                return
            self.conn.bytes_sent += len(data)
