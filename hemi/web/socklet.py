"""Socklets: the components that serve WebSockets. The kind itself; ready-made ones are in `hemi.builtin.socklets`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hemi.web.variables import REQUEST_SCOPE
from hemi.web.websocket.handshake import is_upgrade, upgrade_required
from hemi.web.websocket.serving import accept, serve
from hemi.web.websocket.terms import WebSocketTerms

if TYPE_CHECKING:
    from hemi.web.request import Request
    from hemi.web.response import Response
    from hemi.web.websocket import WebSocket

__all__ = ["Socklet"]


class Socklet(WebSocketTerms, kind="socklets", nested=True):
    """Serves a WebSocket, or declines the request for one."""

    scope = REQUEST_SCOPE

    def admit(self, req: Request) -> bool:
        """Looks at a request before its handshake is answered. False lets the next socklet or rule try; `HTTPError`
        becomes the answer: 401 or 403, for instance."""
        return True

    def serve(self, ws: WebSocket) -> None:
        """Serves one WebSocket; when it returns the WebSocket ends.

        Runs in the greenlet of the connection and may block. An exception is logged, and ends the WebSocket with 1011.
        """
        raise NotImplementedError

    def handle(self, req: Request, resp: Response) -> bool:
        """What rules call: from the handshake to the end."""
        if not is_upgrade(req):
            raise upgrade_required()
        if not self.admit(req):
            return False
        serve(accept(req, resp, self), self.serve)
        return True
