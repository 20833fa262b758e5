"""Listening sockets, shared by address.

A `Listener` is shared by all the stages that name its address, and is closed by the last one that leaves it, so that a
reload never refuses a connection. Who binds is `hemi.binding`, here or in the leader; who accepts is `hemi.acceptor`.
"""

from __future__ import annotations

from _socket import socket as RawSocket
from collections.abc import Callable
from typing import Any

from hemi.binding import ListenOptions, Target, adjust, bind, inode_of, resolve, unlink_own
from hemi.errors import EnvError
from hemi.values import Addr

__all__ = ["Listener", "adjust_all", "listen", "listening_keys", "takes_datagrams"]


class Listener:
    """A listening socket, shared by all who named its address: see `listen`."""

    def __init__(
        self, key: tuple[str, str], address: Addr, sock: RawSocket, options: ListenOptions | None
    ) -> None:
        self.key = key
        self.address = address
        self.sock = sock
        self.options = options
        """What it was made with, or changed to since; None where the socket is another process's."""
        self.users = 0
        self.routes: dict[Any, Any] = {}
        """Of datagrams: who gets those of a source. It outlives reloads, and so do the sessions in it."""
        self.reader: Any = None
        """Of datagrams: who reads them now, None while nobody does."""
        self._path = address.path if options is not None and not address.path.startswith("@") else ""
        self._inode = inode_of(self._path)
        self.bound = address.path or _bound_to(sock)
        """The address as it was bound, with the port that the kernel chose for port 0."""

    def __repr__(self) -> str:
        return f"<Listener {self.bound} users={self.users}>"

    def release(self) -> None:
        """Says that one user needs it no more; the last one closes it."""
        self.users -= 1
        if self.users > 0 or _listeners.get(self.key) is not self:
            return
        del _listeners[self.key]
        self.sock.close()
        unlink_own(self._path, self._inode)

    def adjust(self, options: ListenOptions) -> Callable[[], None]:
        """Has the socket be as other options say; returns what takes it back. Raises OSError: nothing has changed."""
        before = self.options
        if before is None or before == options:
            return lambda: None
        undo_socket = adjust(self.sock, self._path, self._inode, before, options)
        self.options = options

        def undo() -> None:
            self.options = before
            undo_socket()

        return undo


def _bound_to(sock: RawSocket) -> str:
    host, port = sock.getsockname()[:2]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


_listeners: dict[tuple[str, str], Listener] = {}

wishes: dict[tuple[str, str], ListenOptions] = {}
"""The options with which `listen` was called, by key. Who prepares a stage clears them before, and so knows what the
stage wants of the sockets that are there already."""

Provider = Callable[[tuple[str, str], Target, ListenOptions, str], RawSocket]
provider: Provider | None = None
"""Gives the listening socket for a key and an owner, where none is bound here: in a worker, whose leader owns them."""


share = 0
"""The number of this process among those that serve the same addresses, from 1; 0 when there is only this one."""


def takes_datagrams(address: Addr) -> bool:
    """Whether this process takes the datagrams of an address. All do for UDP, each from a socket of its own; a Unix
    domain socket cannot be divided, and is the first process's."""
    return share <= 1 or not address.path


def listen(address: Addr, options: ListenOptions, owner: str) -> Listener:
    """Listens on a TCP or Unix domain address, or takes datagrams there when the options say so; returns the listener
    that is already there for the same address.

    Port 0 is a different address for each `owner` (the server's name). Raises EnvError when the address can't be had.
    """
    name = str(address)
    if options.datagram:
        options = options._replace(share=0 if address.path else share)
        name = f"unixgram {name}" if address.path else f"udp {name}"
        name += f" #{options.share}" if options.share else ""
    key = (name, owner if address.port == 0 and not address.path else "")
    wishes.setdefault(key, options)
    listener = _listeners.get(key)
    if listener is None:
        try:
            target = resolve(address.host, address.port, address.path, options.datagram)
            sock = bind(target, options) if provider is None else provider(key, target, options, owner)
        except OSError as error:
            raise EnvError(f"cannot listen on {address}: {error.strerror or error}") from error
        listener = _listeners.get(key)  # a provider waits: another greenlet may have been faster
        if listener is not None:
            sock.close()
        else:
            own = options if provider is None else None
            listener = _listeners[key] = Listener(key, address, sock, own)
    listener.users += 1
    return listener


def adjust_all() -> Callable[[], None]:
    """Has the sockets of this process be as `wishes` say; returns what takes it back.

    Raises EnvError, and has changed nothing then.
    """
    undone: list[Callable[[], None]] = []

    def undo() -> None:
        for each in undone:
            each()

    for key, options in wishes.items():
        try:
            if key in _listeners:
                undone.append(_listeners[key].adjust(options))
        except OSError as error:
            undo()
            raise EnvError(f"cannot change {key[0]}: {error.strerror or error}") from error
    return undo


def listening_keys() -> list[tuple[str, str]]:
    """The keys of the listeners that are in use."""
    return list(_listeners)
