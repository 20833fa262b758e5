"""The socklet `echo`: sends back what it gets."""

from __future__ import annotations

from hemi.web.socklet import Socklet
from hemi.web.websocket import WebSocket


class EchoSocklet(Socklet, sign="echo"):
    """Sends every message back: to try out and to measure clients, networks and proxies."""

    def serve(self, ws: WebSocket) -> None:
        """Echoes until the client ends it."""
        receive, send = ws.receive, ws.send
        while (message := receive()) is not None:
            send(message)
