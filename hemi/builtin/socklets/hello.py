"""The socklet `hello`: greets, and leaves."""

from __future__ import annotations

from hemi.component import prop
from hemi.web.socklet import Socklet
from hemi.web.websocket import WebSocket


class HelloSocklet(Socklet, sign="hello"):
    """Sends a greeting to whoever connects, and ends: to try out clients and proxies."""

    greeting: str = prop("hello", "The text to send.", inherit=False)

    def serve(self, ws: WebSocket) -> None:
        """Greets."""
        ws.send(self.greeting)
