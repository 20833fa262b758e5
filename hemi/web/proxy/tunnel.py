"""Tunnels: bytes both ways between two channels, whatever they mean, behind a 101."""

from __future__ import annotations

import math
from contextlib import suppress
from time import monotonic

import gevent

from hemi.sockets import Channel

__all__ = ["Tunnel"]

PIECE = 65536


class Tunnel:
    """Relays between the client and a node until both have ended, or nothing has moved for `idle` seconds.

    `sent` and `received` count the bytes to and from the client.
    """

    def __init__(self, client: Channel, node: Channel, idle: float) -> None:
        self.client = client
        self.node = node
        self.idle = idle
        self.sent = 0
        self.received = 0

    def __repr__(self) -> str:
        return f"<Tunnel sent={self.sent} received={self.received}>"

    def run(self, from_client: bytes = b"", from_node: bytes = b"") -> None:
        """Relays what is here already, and then all that comes. Both channels are done with at the end."""
        upwards = gevent.spawn(self._carry, self.client, self.node, from_client)
        try:
            self._carry(self.node, self.client, from_node)
            upwards.join()
        finally:
            upwards.kill()
            self.client.deadline = self.node.deadline = math.inf

    def _carry(self, source: Channel, target: Channel, data: bytes) -> None:
        """One direction. Its end is passed on as an end; a failure ends the other direction, too."""
        downwards = target is self.client
        try:
            while True:
                if data:
                    target.send(data)
                    if downwards:
                        self.sent += len(data)
                    else:
                        self.received += len(data)
                # Whatever moves, in either direction, keeps both alive.
                source.deadline = target.deadline = monotonic() + self.idle
                data = source.recv(PIECE)
                if not data:
                    break
        except OSError:
            now = monotonic()
            for channel in (source, target):
                with suppress(OSError):
                    channel.shutdown_write()
                channel.cut(now)
            return
        with suppress(OSError):
            target.shutdown_write()
