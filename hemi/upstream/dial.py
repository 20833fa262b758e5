"""Dialing: from an address to a connected channel, in blocking style.

A name may have several addresses: they are tried one after another, and share what time there is, so that
one that drops packets does not use it up (RFC 8305's idea without its parallel attempts). Everything raises
DialFailed, with the phase that it failed in.
"""

from __future__ import annotations

import errno
import os
import socket
import ssl
from _socket import socket as RawSocket
from collections.abc import Callable
from time import monotonic
from typing import Any, NoReturn, Protocol

import gevent
from gevent import get_hub, getcurrent

from hemi.resolv import ResolveError
from hemi.resolvconf import literal_family
from hemi.sockets import WRITE, Channel, DeadlinePassed
from hemi.tlschannel import HandshakeFailed
from hemi.upstream.clienttls import DialedTLSChannel, events_of
from hemi.upstream.errors import DialFailed, reason_of
from hemi.values import Addr

__all__ = ["Dialed", "DialedChannel", "dial", "dial_datagrams"]

LEAST_SHARE = 0.05
"""Seconds that an address gets at least when there are others to try."""

_LOCAL = frozenset((errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM, errno.EADDRNOTAVAIL))

_KIND = socket.SOCK_STREAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC
_DATAGRAMS = socket.SOCK_DGRAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC


class _Resolves(Protocol):
    def resolve(self, host: str, port: int, *, timeout: float | None = None) -> list[tuple[int, Any]]: ...


class DialedChannel(Channel):
    """A plain channel of which this side is the client."""

    __slots__ = ("_asking", "_events")

    def __init__(self, sock: RawSocket, write_timeout: float = 60.0) -> None:
        Channel.__init__(self, sock, write_timeout)
        self._events = events_of(sock)
        self._asking: Any = None  # the greenlet that waits in `ask`

    def ask(self, data: bytes, size: int) -> bytes:
        """Sends, then waits for the next 1 to `size` bytes, and returns them: what `send` and `recv_waiting` do.

        The watcher stays on behind it, until something comes that nobody waits for: switched on and off it would cost
        an epoll_ctl(2) each time.
        """
        sock = self.sock
        try:
            sent = sock.send(data)
        except BlockingIOError:
            sent = 0
        if sent != len(data):
            self._send_rest(memoryview(data)[sent:])
        watcher = self._reader
        if watcher is None:
            raise ConnectionAbortedError("the channel is closed")
        self._asking = getcurrent()
        if not watcher.active:
            watcher.start(self._wake)
        try:
            self._switch_out()
        finally:
            self._asking = None
        if self.late:
            raise DeadlinePassed("the deadline for reading has passed")
        try:
            return sock.recv(size)
        except BlockingIOError:
            return self.recv(size)

    def _wake(self) -> None:
        if self._asking is not None:
            self._asking.switch()
        elif self._reader is not None:
            self._reader.stop()

    def is_quiet(self) -> bool:
        """Whether the connection is open and nothing was sent on it that nobody asked for."""
        return self._reader is not None and not self._events(0)


Dialed = DialedChannel | DialedTLSChannel


def dial(
    address: Addr,
    resolv: _Resolves | None = None,
    *,
    timeout: float = 10.0,
    write_timeout: float = 60.0,
    tls: ssl.SSLContext | None = None,
    server_name: str = "",
    permit: Callable[[str], bool] | None = None,
    prefix: bytes = b"",
    before: Dialed | None = None,
) -> Dialed:
    """Connects, and does the TLS handshake when there is a context; all within `timeout` seconds.

    `resolv` finds the addresses of names: a stage's `resolv`, or a `Resolver`. `server_name` is what the server's
    certificate must have, the address's host when it is "". `permit` may refuse an address that a name has, and
    what it saw is what is dialled (against server-side request forgery). `prefix` is sent first of all, and as it is: a
    PROXY header. `before` is a connection to the same server with the same context, whose TLS session goes on, if
    the server likes. Raises DialFailed, and OSError never.

    Afterwards, the deadlines of the channel hold when a `Sweeper` looks after it: a backend's does after its own.
    """
    deadline = monotonic() + timeout
    targets = _targets(address, resolv, timeout, permit)
    sock = _connect_any(address, targets, deadline)
    if prefix:
        _send_first(address, sock, prefix)
    if tls is None:
        return DialedChannel(sock, write_timeout)
    channel = DialedTLSChannel(sock, write_timeout)
    try:
        with gevent.Timeout(max(deadline - monotonic(), LEAST_SHARE), False):  # type: ignore[arg-type]
            channel.connect_tls(tls, server_name or address.host, before)
            return channel
        _fail(address, "tls", "no answer in time", timed_out=True)
    except HandshakeFailed as error:
        channel.close()
        _fail(address, "tls", error.reason)
    except BaseException:
        channel.close()
        raise


def _send_first(address: Addr, sock: RawSocket, prefix: bytes) -> None:
    """Sends what goes before all else: little, so that a new connection takes it at once."""
    try:
        if sock.send(prefix) == len(prefix):
            return
        reason = "it does not take the PROXY header"
    except OSError as error:
        reason = reason_of(error)
    sock.close()
    _fail(address, "connect", reason)


def dial_datagrams(
    address: Addr,
    resolv: _Resolves | None = None,
    *,
    timeout: float = 10.0,
    permit: Callable[[str], bool] | None = None,
) -> RawSocket:
    """A non-blocking socket of datagrams, connected: only that address is heard, and its ICMP errors come as OSErrors.

    Waits for a name's address, and for nothing else. Of several addresses the first is taken that there is a route to:
    whether somebody listens shows later. Raises DialFailed.
    """
    failure: OSError | None = None
    for family, sockaddr in _targets(address, resolv, timeout, permit):
        try:
            sock = RawSocket(family, _DATAGRAMS)
        except OSError as error:
            _fail(address, "connect", reason_of(error), is_local=error.errno in _LOCAL)
        try:
            if family == socket.AF_UNIX:
                sock.bind("")  # a name of its own, in the abstract name space: answers must go somewhere
                sockaddr = "\0" + sockaddr[1:] if sockaddr.startswith("@") else sockaddr
            sock.connect(sockaddr)
            return sock
        except OSError as error:
            sock.close()
            failure = error
    assert failure is not None  # there is no name without an address
    _fail(address, "connect", reason_of(failure), is_local=failure.errno in _LOCAL)


def _fail(
    address: Addr, phase: str, reason: str, timed_out: bool = False, is_local: bool = False
) -> NoReturn:
    failure = DialFailed(reason, node=str(address), phase=phase, timed_out=timed_out)
    failure.is_local = is_local
    raise failure from None


def _targets(
    address: Addr, resolv: _Resolves | None, timeout: float, permit: Callable[[str], bool] | None
) -> list[tuple[int, Any]]:
    """The (family, sockaddr) pairs to try, best first."""
    if address.path:
        return [(socket.AF_UNIX, address.sockaddr)]
    host = address.host or "127.0.0.1"
    try:
        if resolv is not None:
            found = resolv.resolve(host, address.port, timeout=timeout)
        else:
            family = literal_family(host)
            if family is None:  # the kernel's resolver would stop everything
                _fail(address, "resolve", "there is no resolver")
            found = [(family, (host, address.port))]
    except ResolveError as error:
        _fail(address, "resolve", error.reason, timed_out=error.temporary)
    if permit is not None:
        found = [pair for pair in found if permit(pair[1][0])]
        if not found:
            _fail(address, "resolve", "its address is not permitted")
    return found


def _connect_any(address: Addr, targets: list[tuple[int, Any]], deadline: float) -> RawSocket:
    failure, timed_out, is_local = "", False, False
    for left, (family, sockaddr) in zip(range(len(targets), 0, -1), targets, strict=True):
        seconds = deadline - monotonic()
        if seconds <= 0:
            failure, timed_out = failure or "no answer in time", True
            break
        try:
            return _connect(family, sockaddr, max(seconds / left, min(LEAST_SHARE, seconds)))
        except TimeoutError:
            failure, timed_out, is_local = "no answer in time", True, False
        except OSError as error:
            failure, timed_out = reason_of(error), error.errno == errno.ETIMEDOUT
            is_local = error.errno in _LOCAL
    _fail(address, "connect", failure, timed_out, is_local)


def _connect(family: int, sockaddr: Any, seconds: float) -> RawSocket:
    """A connected socket. Raises OSError."""
    sock, peer = RawSocket(family, _KIND), None
    try:
        if family != socket.AF_UNIX:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        code = sock.connect_ex(sockaddr)
        if code == errno.EINPROGRESS:
            peer = _peer_of(sock)
            code = 0 if peer is not None else _wait_connected(sock, seconds)
        elif code == errno.EAGAIN and family == socket.AF_UNIX:
            code = _retry_uds(sock, sockaddr, seconds)
        if code:
            raise OSError(code, os.strerror(code))
        if family != socket.AF_UNIX and sock.getsockname() == (peer or sock.getpeername()):
            # Nobody listens, and the kernel chose this very port for our end: TCP connects to itself then.
            raise ConnectionRefusedError(errno.ECONNREFUSED, os.strerror(errno.ECONNREFUSED))
    except BaseException:
        sock.close()
        raise
    return sock


def _peer_of(sock: RawSocket) -> Any:
    """The other end of a connection that is there already, as one to this machine is: not to wait for it saves a
    quarter of the time of connecting. None when it is not there yet."""
    try:
        return sock.getpeername()
    except OSError:
        return None


def _wait_connected(sock: RawSocket, seconds: float) -> int:
    """Waits for the connection; returns what came of it, an errno or 0. Raises TimeoutError."""
    hub = get_hub()
    watcher = hub.loop.io(sock.fileno(), WRITE)
    try:
        with gevent.Timeout(seconds, TimeoutError()):
            hub.wait(watcher)
    finally:
        watcher.close()
    return sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)


def _retry_uds(sock: RawSocket, path: str, seconds: float) -> int:
    """Waits for room in the queue of a Unix domain socket: the kernel gives no sign when there is."""
    pause = 0.001
    deadline = monotonic() + seconds
    while monotonic() < deadline:
        gevent.sleep(pause)
        pause = min(pause * 2, 0.05)
        code = sock.connect_ex(path)
        if code != errno.EAGAIN:
            return code
    raise TimeoutError
