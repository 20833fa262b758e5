"""Binding: makes listening sockets, TCP and Unix domain, and sockets for datagrams, UDP and Unix domain.

Apart from `hemi.sockets` because the leader binds too, for its workers, and loads neither gevent nor the engine: only
the standard library is imported here. A `Target` is plain data, so that a worker can send it to its leader.

Files of sockets are changed by descriptor and never by name: the leader may be root, and the folder another user's, who
could put a link in the place of the socket (SECURITY row 10).
"""

from __future__ import annotations

import errno
import grp
import os
import pwd
import socket
import stat
from _socket import socket as RawSocket
from collections.abc import Callable
from typing import Any, NamedTuple

__all__ = ["ListenOptions", "Target", "adjust", "bind", "inode_of", "resolve", "unlink_own"]

Inode = tuple[int, int]
"""Device and inode of a file, to know it again by."""


class ListenOptions(NamedTuple):
    """How to listen: the queue of connections not yet accepted, and mode, user and group of a Unix domain socket.

    `datagram` is for sockets of datagrams. `share` is then the number of this one among the sockets of the address, of
    which each process has one: the kernel sends all datagrams of a source to the same (SO_REUSEPORT). 0: it is alone.
    """

    backlog: int = 4096
    uds_mode: int | None = None
    uds_user: str | None = None
    uds_group: str | None = None
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
    inode = inode_of(path)
    try:
        adjust_file(path, inode, ListenOptions(), options)
    except OSError:
        unlink_own(path, inode)
        raise


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


def adjust(
    sock: RawSocket, path: str, inode: Inode | None, old: ListenOptions, new: ListenOptions
) -> Callable[[], None]:
    """Makes of a socket in use what other options say: the length of its queue, mode and owner of its file.

    What is not said any more becomes what a new file gets. Returns what takes it all back. Raises OSError, and has
    changed nothing then.
    """
    undo_file = adjust_file(path, inode, old, new) if path else None
    listens = not new.datagram and new.backlog != old.backlog
    if listens:
        sock.listen(new.backlog)

    def undo() -> None:
        if listens:
            sock.listen(old.backlog)
        if undo_file is not None:
            undo_file()

    return undo


def adjust_file(
    path: str, inode: Inode | None, old: ListenOptions, new: ListenOptions
) -> Callable[[], None] | None:
    """Gives the file of a socket the mode and the owner that differ between the options; returns what takes it back,
    None where nothing differs. Raises OSError, and has changed nothing then."""
    mode, uid, gid = _differing(path, old, new)
    if (mode, uid, gid) == (-1, -1, -1):
        return None
    before = _set_file(path, inode, mode, uid, gid)

    def undo() -> None:
        _set_file(path, inode, *before)

    return undo


def _differing(path: str, old: ListenOptions, new: ListenOptions) -> tuple[int, int, int]:
    """The mode, user and group that a file is to get; -1 for what is to stay."""
    mode = uid = gid = -1
    if new.uds_mode != old.uds_mode:
        mode = 0o777 & ~_umask() if new.uds_mode is None else new.uds_mode
    if new.uds_user != old.uds_user:
        uid = _user_id(new.uds_user) if new.uds_user else os.geteuid()
    if new.uds_group != old.uds_group:
        folder = os.stat(os.path.dirname(path) or ".")
        made_with = folder.st_gid if folder.st_mode & stat.S_ISGID else os.getegid()
        gid = _group_id(new.uds_group) if new.uds_group else made_with
    return mode, uid, gid


def _set_file(path: str, inode: Inode | None, mode: int, uid: int, gid: int) -> tuple[int, int, int]:
    """Changes what is not -1 of the socket's file, if it is the one of this inode; returns mode, user and group that
    it had. Raises OSError, and has changed nothing then."""
    descriptor = os.open(path, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        status = os.fstat(descriptor)
        if (status.st_dev, status.st_ino) != inode or not stat.S_ISSOCK(status.st_mode):
            raise OSError(errno.EEXIST, f"another file is in the place of {path}")
        itself = f"/proc/self/fd/{descriptor}"  # what is open, whatever has that name by now
        had = stat.S_IMODE(status.st_mode), status.st_uid, status.st_gid
        steps: list[Callable[[], None]] = [lambda: os.chmod(itself, mode)] if mode >= 0 else []
        if uid >= 0 or gid >= 0:
            # As long as the file is ours, or when it is ours again, its mode can be changed without CAP_FOWNER.
            at = len(steps) if status.st_uid == os.geteuid() else 0
            steps.insert(at, lambda: os.chown(itself, uid, gid))
        try:
            for step in steps:
                step()
        except OSError:
            now = os.fstat(descriptor)
            if (now.st_uid, now.st_gid) != had[1:]:
                os.chown(itself, *had[1:])
            if stat.S_IMODE(now.st_mode) != had[0]:
                os.chmod(itself, had[0])
            raise
        return had
    finally:
        os.close(descriptor)


def _user_id(user: str) -> int:
    try:
        return int(user) if user.isdigit() else pwd.getpwnam(user).pw_uid
    except KeyError:
        raise OSError(errno.EINVAL, f"there is no user {user}") from None


def _group_id(group: str) -> int:
    try:
        return int(group) if group.isdigit() else grp.getgrnam(group).gr_gid
    except KeyError:
        raise OSError(errno.EINVAL, f"there is no group {group}") from None


def _umask() -> int:
    """The rights that new files do not get. umask(2) could only tell by changing it, for other threads as well."""
    with open("/proc/self/status", encoding="ascii", errors="replace") as file:
        return next(int(line.split()[1], 8) for line in file if line.startswith("Umask:"))


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


def inode_of(path: str) -> Inode | None:
    """Device and inode of a file, to know it again by; None where there is none, or no path."""
    try:
        status = os.lstat(path) if path else None
    except OSError:
        return None
    return (status.st_dev, status.st_ino) if status else None


def unlink_own(path: str, inode: Inode | None) -> None:
    """Removes the file of a Unix domain socket unless somebody has put another one in its place."""
    if path and inode is not None and inode_of(path) == inode:
        os.unlink(path)
