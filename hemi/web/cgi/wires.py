"""Sending a request while its answer may come already, in one greenlet.

A program that answers while it still reads (a filter) blocks when nobody takes its output, and then takes no more
input: who only sends waits for ever. So whoever sends looks for what has come each time the other side takes nothing.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from time import monotonic
from typing import TYPE_CHECKING, Any, Protocol, cast

from gevent import get_hub

from hemi.sockets import READ, WRITE, DeadlinePassed

if TYPE_CHECKING:
    from hemi.upstream.dial import Dialed

__all__ = ["ChannelWire", "Wire", "upload"]

RECV_SIZE = 131072


class Wire(Protocol):
    """A way to a program and back. All verbs raise OSError; those that wait, DeadlinePassed."""

    def send_some(self, data: memoryview) -> memoryview:
        """Sends what is taken without waiting, and returns the rest."""
        ...

    def flush(self) -> bool:
        """Whether all has gone out that was taken, as far as that goes without waiting."""
        ...

    def receive_now(self) -> bytes | None:
        """What has come, b"" at the end, None when there is nothing yet."""
        ...

    def receive(self, deadline: float) -> bytes:
        """Waits for what comes next, b"" at the end."""
        ...

    def wait(self, deadline: float) -> None:
        """Waits until one of the first two makes sense."""
        ...


class ChannelWire:
    """A connection to a node."""

    __slots__ = ("channel",)

    def __init__(self, channel: Dialed) -> None:
        self.channel = channel

    def send_some(self, data: memoryview) -> memoryview:
        """Sends what the node takes."""
        channel: Any = self.channel
        if channel.tls is not None:
            return data[channel.send_some(data) :]
        try:
            return data[channel.sock.send(data) :]
        except BlockingIOError:
            return data

    def receive_now(self) -> bytes | None:
        """What has come of the answer."""
        channel: Any = self.channel
        if channel.tls is not None:
            return cast("bytes | None", channel.recv_now(RECV_SIZE))
        try:
            return cast("bytes", channel.sock.recv(RECV_SIZE))
        except BlockingIOError:
            return None

    def flush(self) -> bool:
        """With TLS, what was taken may still wait to be sent."""
        channel: Any = self.channel
        return channel.tls is None or bool(channel.flush_some())

    def receive(self, deadline: float) -> bytes:
        """Waits for more of the answer."""
        channel = self.channel
        channel.deadline = deadline
        try:
            return channel.recv(RECV_SIZE)
        finally:
            channel.deadline = math.inf  # it holds while something waits for the node, not for the client

    def wait(self, deadline: float) -> None:
        """Waits until the node takes or sends something, `write_timeout` at most."""
        channel = self.channel
        hub = get_hub()
        watcher = hub.loop.io(channel.sock.fileno(), READ | WRITE)
        channel.deadline = min(deadline, monotonic() + channel.write_timeout)
        try:
            hub.wait(watcher)
        finally:
            watcher.close()
            channel.deadline = math.inf
        if channel.late:
            raise DeadlinePassed("the node does not take what is sent to it")


def upload(wire: Wire, pieces: Iterable[bytes], take: Callable[[bytes], bool], deadline: float) -> bool:
    """Sends the pieces, and passes what comes meanwhile to `take`; it returns True when that was the end of it.

    Returns whether all was sent. Raises OSError of the wire, and what `pieces` and `take` raise.
    """
    for number, piece in enumerate(pieces):
        if number and (data := wire.receive_now()) is not None and take(data):
            return False
        rest = memoryview(piece)
        while rest:
            rest = wire.send_some(rest)
            if rest and _take_meanwhile(wire, take, deadline):
                return False
    while not wire.flush():
        if _take_meanwhile(wire, take, deadline):
            return False
    return True


def _take_meanwhile(wire: Wire, take: Callable[[bytes], bool], deadline: float) -> bool:
    """Takes what has come, or waits until something comes or goes; True when that was the end of it."""
    data = wire.receive_now()
    if data is not None:
        return take(data)
    wire.wait(deadline)
    return False
