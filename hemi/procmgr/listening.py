"""The listening sockets of an instance: its leader owns them, its workers use them.

Whichever worker goes, crashes or is replaced, the socket stays, and with it the connections that wait in its queue. A
worker finds the sockets that were there when it was forked among what it inherited; others (a reload adds an address)
it asks for, and gets by SCM_RIGHTS. Sockets also come from outside: from systemd (LISTEN_FDS), and from the leader
before this one (upgrade).

Of a UDP address each worker has a socket of its own ("udp 127.0.0.1:53 #2" is worker 2's), and the kernel chooses one
by the source: so all datagrams of a source reach the same worker. As the sockets stay when workers go, so does the
choice; those of a worker that was given up are closed, and its sources go to the others.

Standard library only: this runs in the leader.
"""

from __future__ import annotations

import os
import re
import socket
from _socket import socket as RawSocket
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

from hemi.binding import ListenOptions, Target, bind, inode_of, unlink_own

__all__ = ["Listening", "key_text"]


def key_text(key: tuple[str, str]) -> str:
    """The name of a socket: its address, and whose it is where the address alone does not tell (port 0)."""
    address, owner = key
    return f"{address} of {owner}" if owner else address


class Held(NamedTuple):
    """A socket that we own. `inode` tells the file that we made for a Unix domain socket."""

    sock: RawSocket
    path: str
    inode: tuple[int, int] | None


class Adopted(NamedTuple):
    """A socket from outside that no worker has asked for yet."""

    sock: RawSocket
    name: str


class Listening:
    """The sockets by their keys (see `key_text`)."""

    def __init__(self, tell: Callable[[str], None]) -> None:
        self.tell = tell
        self.held: dict[str, Held] = {}
        self.adopted: list[Adopted] = []

    def __repr__(self) -> str:
        return f"<Listening {' '.join(self.held)}>"

    def get(self, key: str, owner: str, target: Target, options: ListenOptions) -> RawSocket:
        """Returns the socket for a key: the one that is there, one from outside, or a new one. Raises OSError."""
        held = self.held.get(key)
        if held is None:
            sock = self._adopt(owner, target)
            if sock is not None:
                self.tell(f"{key} comes from outside")
                held = Held(sock, "", None)
            else:
                sock = self._bind(key, target, options)
                held = Held(sock, target.path, inode_of(target.path))
            self.held[key] = held
        return held.sock

    def _bind(self, key: str, target: Target, options: ListenOptions) -> RawSocket:
        """Binds. Whoever shares an address among our sockets must not share it with a stranger unawares."""
        if options.share:
            sibling = next((held for name, held in self.held.items() if _plain(name) == _plain(key)), None)
            if sibling is not None:  # port 0 is one port for all of them
                target = target._replace(sockaddr=sibling.sock.getsockname())
            else:
                bind(target, options._replace(share=0)).close()
        return bind(target, options)

    def _adopt(self, owner: str, target: Target) -> RawSocket | None:
        """The socket from outside that is bound to the target, or else the one that has the server's name."""
        kind = socket.SOCK_DGRAM if target.is_datagram else socket.SOCK_STREAM
        fitting = [adopted for adopted in self.adopted if adopted.sock.type == kind]
        for adopted in fitting:
            if _is_bound_to(adopted.sock, target):
                self.adopted.remove(adopted)
                return adopted.sock
        for adopted in fitting:
            if owner and adopted.name == owner:
                self.adopted.remove(adopted)
                return adopted.sock
        return None

    def adopt(self, descriptor: int, name: str = "") -> None:
        """Takes a descriptor from outside. Raises OSError when it is no listening socket, nor one for datagrams."""
        probe = socket.socket(fileno=os.dup(descriptor))
        try:
            if probe.type != socket.SOCK_DGRAM and not probe.getsockopt(
                socket.SOL_SOCKET, socket.SO_ACCEPTCONN
            ):
                raise OSError(f"descriptor {descriptor} does not listen")
            sock = RawSocket(probe.family, probe.type, probe.proto, os.dup(descriptor))
        finally:
            probe.close()
        os.close(descriptor)
        sock.setblocking(False)
        self.adopted.append(Adopted(sock, name))

    def release(self, used: Iterable[str]) -> None:
        """Closes what nobody uses any more."""
        used = set(used)
        for key in [key for key in self.held if key not in used]:
            self.tell(f"{key} is given back")
            self._close(self.held.pop(key))

    def close(self, unlink: bool = True) -> None:
        """Closes everything. Files of sockets stay when another leader has taken them over."""
        held, self.held = self.held, {}
        for each in held.values():
            self._close(each if unlink else each._replace(path=""))
        for adopted in self.adopted:
            adopted.sock.close()
        self.adopted.clear()

    def _close(self, held: Held) -> None:
        held.sock.close()
        try:
            unlink_own(held.path, held.inode)
        except OSError as error:
            self.tell(f"{held.path} cannot be removed: {error.strerror}")

    def export(self) -> list[dict[str, Any]]:
        """What the next leader needs to know to take the sockets over; it inherits the descriptors."""
        return [
            {"key": key, "fd": held.sock.fileno(), "path": held.path, "inode": held.inode}
            for key, held in self.held.items()
        ]

    def restore(self, exported: list[dict[str, Any]]) -> None:
        """Takes over what another leader exported. Raises OSError."""
        for each in exported:
            probe = socket.socket(fileno=os.dup(each["fd"]))
            sock = RawSocket(probe.family, probe.type, probe.proto, each["fd"])
            probe.close()
            os.set_inheritable(each["fd"], False)
            inode = tuple(each["inode"]) if each["inode"] else None
            self.held[each["key"]] = Held(sock, each["path"], inode)


def _plain(key: str) -> str:
    """A key without the number of its worker."""
    return re.sub(r" #[0-9]+", "", key, count=1)


def _is_bound_to(sock: RawSocket, target: Target) -> bool:
    if sock.family != target.family:
        return False
    name = sock.getsockname()
    if sock.family == socket.AF_UNIX:
        text = name.decode() if isinstance(name, bytes) else name
        return bool(
            text == str(target.sockaddr).replace("@", "\0", 1) if text[:1] == "\0" else text == target.path
        )
    return tuple(name[:2]) == tuple(target.sockaddr[:2])
