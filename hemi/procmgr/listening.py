"""The listening sockets of an instance: its leader owns them, its workers use them.

Whichever worker goes, crashes or is replaced, the socket stays, and with it the connections that wait in its queue. A
worker finds the sockets that were there when it was forked among what it inherited; others (a reload adds an address)
it asks for, and gets by SCM_RIGHTS. Sockets also come from outside: from systemd (LISTEN_FDS), and from the leader
before this one (upgrade).

Of a UDP address each worker has a socket of its own ("udp 127.0.0.1:53 #2" is worker 2's), and the kernel chooses one
by the source: so all datagrams of a source reach the same worker. As the sockets stay when workers go, so does the
choice; those of a worker that was given up are closed, and its sources go to the others.

A reload can change the queue of a socket that stays, and mode and owner of its file, but not those of a socket from
systemd: its unit says how it is to be.

Standard library only: this runs in the leader.
"""

from __future__ import annotations

import os
import re
import socket
from _socket import socket as RawSocket
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

from hemi.binding import Inode, ListenOptions, Target, adjust, bind, inode_of, unlink_own

__all__ = ["Listening", "key_text"]


def key_text(key: tuple[str, str]) -> str:
    """The name of a socket: its address, and whose it is where the address alone does not tell (port 0)."""
    address, owner = key
    return f"{address} of {owner}" if owner else address


class Held(NamedTuple):
    """A socket that we own. `inode` tells the file that we made for a Unix domain socket."""

    sock: RawSocket
    path: str
    inode: Inode | None
    options: ListenOptions | None
    """What it was made with, or changed to since; None for one from outside."""


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
        self.borrowed: set[str] = set()
        """The keys of those that another leader still has as well: as long as we may fail, their files are its own."""

    def __repr__(self) -> str:
        return f"<Listening {' '.join(self.held)}>"

    def get(self, key: str, owner: str, target: Target, options: ListenOptions) -> RawSocket:
        """Returns the socket for a key: the one that is there, one from outside, or a new one. Raises OSError."""
        held = self.held.get(key)
        if held is None:
            sock = self._adopt(owner, target)
            if sock is not None:
                self.tell(f"{key} comes from outside")
                held = Held(sock, "", None, None)
            else:
                sock = self._bind(key, target, options)
                held = Held(sock, target.path, inode_of(target.path), options)
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

    def adjust(self, wishes: dict[str, ListenOptions]) -> None:
        """Has the sockets be as a configuration wants them. Raises OSError, and has changed nothing then."""
        changed: dict[str, Held] = {}
        undone: list[Callable[[], None]] = []
        for key, options in wishes.items():
            held = self.held.get(key)
            if held is None or held.options is None or held.options == options:
                continue
            try:
                undone.append(adjust(held.sock, held.path, held.inode, held.options, options))
            except OSError as error:
                for undo in undone:
                    undo()
                raise OSError(error.errno, f"cannot change {key}: {error.strerror or error}") from error
            changed[key] = held._replace(options=options)
        self.held |= changed

    def release(self, used: Iterable[str]) -> None:
        """Closes what nobody uses any more. What is borrowed stays until it is ours."""
        used = {*used, *self.borrowed}
        for key in [key for key in self.held if key not in used]:
            self.tell(f"{key} is given back")
            self._close(self.held.pop(key))

    def close(self, unlink: bool = True) -> None:
        """Closes everything. Files of sockets stay when another leader has them, or has taken them over."""
        held, self.held = self.held, {}
        for key, each in held.items():
            self._close(each if unlink and key not in self.borrowed else each._replace(path=""))
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
            {
                "key": key,
                "fd": held.sock.fileno(),
                "path": held.path,
                "inode": held.inode,
                "options": held.options,
            }
            for key, held in self.held.items()
        ]

    def restore(self, exported: list[dict[str, Any]]) -> None:
        """Borrows what another leader exported. Raises OSError."""
        for each in exported:
            probe = socket.socket(fileno=os.dup(each["fd"]))
            sock = RawSocket(probe.family, probe.type, probe.proto, each["fd"])
            probe.close()
            os.set_inheritable(each["fd"], False)
            inode = tuple(each["inode"]) if each["inode"] else None
            options = ListenOptions(*each["options"]) if each["options"] else None
            self.held[each["key"]] = Held(sock, each["path"], inode, options)
            self.borrowed.add(each["key"])

    def take_over(self) -> None:
        """Makes what was borrowed our own: the other leader goes."""
        self.borrowed.clear()


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
