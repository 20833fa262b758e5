"""Tunnels that carry WebSockets: when their stage goes, a close frame tells both sides so (1001, RFC 6455 §7.4.1).

Frames are followed on the way, so that it is known where another one may be put; nothing else is looked at.

The client is told first. Its answer goes on to the node as any other frame does, behind all that it has said before:
so the node learns the end as from the client itself. If the client does not answer, the node is told in its place.
"""

from __future__ import annotations

import math
from contextlib import suppress
from time import monotonic
from typing import TYPE_CHECKING, Any

import gevent

from hemi.sockets import Channel
from hemi.web.proxy.tunnel import Tunnel
from hemi.web.websocket.frames import CLOSE, build_frame, close_payload
from hemi.web.websocket.passing import FrameFollower, masked_close

if TYPE_CHECKING:
    from hemi.web.websocket.keeper import Keeper

__all__ = ["WebSocketTunnel"]

ANSWER = 1.25
"""Seconds that each side has to answer a close frame. Both together are less than the last seconds of a drain
(`hemi.web.websocket.keeper.FAREWELL`)."""


class WebSocketTunnel(Tunnel):
    """A tunnel that the keeper of its stage knows: `closed`, `due`, `go_away` and `look` are for it."""

    def __init__(self, client: Channel, node: Channel, idle: float, keeper: Keeper) -> None:
        super().__init__(client, node, idle)
        self.keeper = keeper
        self.closed = False
        """The keeper has told it to end."""
        self.due = math.inf
        self._down = FrameFollower(masked=False)
        self._up = FrameFollower(masked=True)
        self._sending: list[Channel] = []
        """The channels that something is sent to now."""
        self._leaving = False
        """The client is told, or has been: no frame of the node's that begins now passes."""
        self._farewell = b""
        """What is still to be said to the client."""
        self._reason = (1001, "")
        self._spoken = False
        """The node has been told in place of the client, of whom it hears no more."""
        self._patience = 2
        self._speaker: Any = None

    def run(self, from_client: bytes = b"", from_node: bytes = b"") -> None:
        """Relays what is here already, and then all that comes. Both channels are done with at the end."""
        keeper = self.keeper
        keeper.add(self)
        if keeper.until is not None:
            keeper.tick(keeper.until)
        try:
            super().run(from_client, from_node)
        finally:
            keeper.remove(self)
            if self._speaker is not None:
                self._speaker.kill()

    def pass_on(self, target: Channel, data: bytes) -> None:
        """Sends a piece, or as much of it as may still pass."""
        if target is not self.client:
            if self._spoken:
                return
            self._up.follow(data)
        elif self._leaving:
            data = data[: self._down.rest(data)]
        else:
            self._down.follow(data)
        if data:
            self._sending.append(target)
            try:
                super().pass_on(target, data)
            finally:
                self._sending.remove(target)
        if self._farewell and target is self.client and self._down.between:
            self._say()

    def go_away(self, code: int, reason: str) -> None:
        """Tells the client that the WebSocket ends, as soon as no frame is under way to it. Returns at once."""
        self.closed = True
        if self._down.lost or self._down.closing or self._up.closing:
            return  # no WebSocket, or it ends already
        self._leaving = True
        self._farewell = build_frame(CLOSE, close_payload(code, reason))
        self._reason = (code, reason)
        self.due = monotonic() + ANSWER
        if self._down.between and self.client not in self._sending:
            self._speaker = gevent.spawn(self._say)

    def look(self, now: float) -> None:
        """The time to answer is over: of the client first, then of the node. Returns at once."""
        self._patience -= 1
        self.due = now + ANSWER if self._patience > 0 else math.inf
        if self._patience <= 0:
            self.node.cut(now)
            self.client.cut(now)
        elif not self._up.closing and self._up.between and self.node not in self._sending:
            self._spoken = True
            self._speaker = gevent.spawn(self._speak_for_client)

    def _say(self) -> None:
        """Tells the client."""
        frame, self._farewell = self._farewell, b""
        if frame:
            with suppress(OSError):
                super().pass_on(self.client, frame)

    def _speak_for_client(self) -> None:
        """Tells the node."""
        with suppress(OSError):
            super().pass_on(self.node, masked_close(*self._reason))
