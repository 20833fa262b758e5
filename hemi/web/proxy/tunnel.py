"""Tunnels: bytes both ways between two channels, whatever they mean, behind a 101.

A WebSocket has a key to prove something by in HTTP/1.1 only (RFC 8441 §5): for a client of HTTP/2 it is made here, and
looked at in the node's answer.
"""

from __future__ import annotations

import base64
import math
import os
from contextlib import suppress
from time import monotonic
from typing import TYPE_CHECKING

import gevent

from hemi.sockets import Channel
from hemi.web.h1.answer import BadAnswer, Head
from hemi.web.websocket.handshake import accept_token

if TYPE_CHECKING:
    from hemi.web.request import Request

__all__ = ["Tunnel", "give_key", "take_accept"]

ACCEPT = b"sec-websocket-accept"

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

    def pass_on(self, target: Channel, data: bytes) -> None:
        """Sends a piece to one side, and counts it. Raises OSError."""
        target.send(data)
        if target is self.client:
            self.sent += len(data)
        else:
            self.received += len(data)

    def _carry(self, source: Channel, target: Channel, data: bytes) -> None:
        """One direction. Its end is passed on as an end; a failure ends the other direction, too."""
        try:
            while True:
                if data:
                    self.pass_on(target, data)
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


def give_key(req: Request) -> bytes:
    """Gives a handshake of HTTP/2 the key that HTTP/1.1 needs, and returns it."""
    key = base64.b64encode(os.urandom(16))
    req.delete_header("sec-websocket-key")
    req.add_header("sec-websocket-key", key.decode())
    return key


def take_accept(head: Head, key: bytes) -> Head:
    """An answer without the proof that its sender has read the key, which is none of a client's that gave none.

    Raises BadAnswer when there is no proof (RFC 6455 §4.1).
    """
    if head.get(ACCEPT) != accept_token(key):
        raise BadAnswer("its Sec-WebSocket-Accept is wrong")
    fields = tuple(field for field in head.fields if field[0] != ACCEPT)
    return Head(head.status, fields, head.size, head.options, head.keep_alive)
