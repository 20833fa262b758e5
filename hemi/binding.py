"""Binding: makes listening sockets, TCP and Unix domain, and sockets for datagrams, UDP and Unix domain.

Apart from `hemi.sockets` because the leader binds too, for its workers, and loads neither gevent nor the engine: only
the standard library is imported here. A `Target` is plain data, so that a worker can send it to its leader.
"""

from __future__ import annotations

import errno
import os
import socket
import stat
from _socket import socket as RawSocket
from typing import Any, NamedTuple

__all__ = ["ListenOptions", "Target", "bind", "inode_of", "resolve", "unlink_own"]


class ListenOptions(NamedTuple):
    """How to listen: the queue of connections not yet accepted, and mode, user and group of a Unix domain socket.

    `datagram` is for sockets of datagrams. `share` is then the number of this one among the sockets of the address, of
    which each process has one: the kernel sends all datagrams of a source to the same (SO_REUSEPORT). 0: it is alone.
    """

    backlog: int = 4096
    uds_mode: int | None = None
    uds_user: str | None = None
    uds_group: str | None = None
    defer_accept: bool = False
    datagram: bool = False
    share: int = 0


class Target(NamedTuple):
    """What to bind to: the family, and the address as the kernel takes it ("@name" in the abstract name space)."""

    family: int
    sockaddr: Any
    v6only: bool = False
    is_datagram: bool = False

    @property
    def path(self) -> str:
        """The path of a Unix domain socket in the file system, "" for what has none."""
        named = self.family == socket.AF_UNIX and not self.sockaddr.startswith("@")
        return str(self.sockaddr) if named else ""


def resolve(host: str, port: int, path: str, datagram: bool = False) -> Target:
    """Returns what an address comes to. Raises OSError (socket.gaierror) for an unknown host name."""
    if path:
        return Target(socket.AF_UNIX, path, is_datagram=datagram)
    if host:
        kind = socket.SOCK_DGRAM if datagram else socket.SOCK_STREAM
        infos = socket.getaddrinfo(host, port, type=kind, flags=socket.AI_PASSIVE)
        family, _, _, _, sockaddr = infos[0]
        # ":80" means both families; "[::]:80" means what it says.
        return Target(int(family), sockaddr, family == socket.AF_INET6, datagram)
    if _has_ipv6():
        return Target(int(socket.AF_INET6), ("::", port), is_datagram=datagram)
    return Target(int(socket.AF_INET), ("0.0.0.0", port), is_datagram=datagram)


def bind(target: Target, options: ListenOptions) -> RawSocket:
    """Returns a non-blocking socket that listens, or takes datagrams. Raises OSError."""
    kind = socket.SOCK_DGRAM if target.is_datagram else socket.SOCK_STREAM
    sock = RawSocket(target.family, kind | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK)
    try:
        if target.family == socket.AF_UNIX:
            _bind_uds(sock, target.sockaddr, options)
        elif target.is_datagram:
            _bind_udp(sock, target, options)
        else:
            _bind_tcp(sock, target, options)
        if not target.is_datagram:
            sock.listen(options.backlog)
    except BaseException:
        sock.close()
        raise
    return sock


def _bind_tcp(sock: RawSocket, target: Target, options: ListenOptions) -> None:
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # inherited by what is accepted
    if options.defer_accept:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_DEFER_ACCEPT, 1)
    if target.family == socket.AF_INET6:
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, int(target.v6only))
    sock.bind(tuple(target.sockaddr))


def _bind_udp(sock: RawSocket, target: Target, options: ListenOptions) -> None:
    # No SO_REUSEADDR: of UDP, it would let two strangers share an address without noticing.
    if options.share:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    if target.family == socket.AF_INET6:
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, int(target.v6only))
    sock.bind(tuple(target.sockaddr))


def _bind_uds(sock: RawSocket, path: str, options: ListenOptions) -> None:
    if path.startswith("@"):
        sock.bind("\0" + path[1:])
        return
    _remove_stale(path)
    sock.bind(path)
    if options.uds_mode is not None:
        os.chmod(path, options.uds_mode)
    if options.uds_user or options.uds_group:
        _chown(path, options.uds_user, options.uds_group)


def _has_ipv6() -> bool:
    if not socket.has_ipv6:
        return False
    try:
        probe = RawSocket(socket.AF_INET6, socket.SOCK_STREAM)
    except OSError:
        return False
    try:
        probe.bind(("::", 0))
    except OSError:
        return False
    finally:
        probe.close()
    return True


def _chown(path: str, user: str | None, group: str | None) -> None:
    import shutil

    try:
        if user and group:
            shutil.chown(path, user, group)
        elif user:
            shutil.chown(path, user)
        elif group:
            shutil.chown(path, group=group)
    except LookupError as error:
        raise OSError(errno.EINVAL, str(error)) from error


def _remove_stale(path: str) -> None:
    """Removes a socket file that nobody listens on any more; raises EADDRINUSE when somebody does."""
    try:
        mode = os.lstat(path).st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(mode):
        raise OSError(errno.EEXIST, "a file that is no socket is in its place")
    probe = RawSocket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
    try:
        probe.connect(path)
    except ConnectionRefusedError:
        os.unlink(path)
        return
    except OSError:
        pass
    finally:
        probe.close()
    raise OSError(errno.EADDRINUSE, os.strerror(errno.EADDRINUSE))


def inode_of(path: str) -> tuple[int, int] | None:
    """Device and inode of a file, to know it again by; None where there is none, or no path."""
    try:
        status = os.lstat(path) if path else None
    except OSError:
        return None
    return (status.st_dev, status.st_ino) if status else None


def unlink_own(path: str, inode: tuple[int, int] | None) -> None:
    """Removes the file of a Unix domain socket unless somebody has put another one in its place."""
    if path and inode is not None and inode_of(path) == inode:
        os.unlink(path)
