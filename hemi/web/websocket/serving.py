"""A WebSocket from the handshake to its end: what socklets, the framework and WSGI apps have in common."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from greenlet import GreenletExit

from hemi.web.websocket.connection import WebSocket, WebSocketClosed
from hemi.web.websocket.handshake import agree_on
from hemi.web.websocket.keeper import keeper_of

if TYPE_CHECKING:
    from hemi.web.request import Request
    from hemi.web.response import Response
    from hemi.web.websocket.terms import WebSocketTerms

__all__ = ["accept", "finish", "serve"]


def accept(
    req: Request, resp: Response, terms: WebSocketTerms, subprotocols: Sequence[str] | None = None
) -> WebSocket:
    """Answers a handshake; the exchange is a WebSocket then, until `finish`. Raises HTTPError when it is not to be."""
    agreement = agree_on(req, terms, terms.subprotocols if subprotocols is None else subprotocols)
    resp.status = 101
    resp.fields += agreement.fields
    channel, data = req.stream.take_over(resp, b"websocket")
    resp.status = 101  # what it is in logs and meters, although HTTP/2 says 200
    keeper = keeper_of(terms.stage)
    ws = WebSocket(req, resp, channel, data, terms, keeper, agreement.subprotocol, agreement.bits)
    keeper.add(ws)
    if keeper.until is not None:
        keeper.tick(keeper.until)
    return ws


def finish(ws: WebSocket, code: int = 1000) -> None:
    """Ends a WebSocket that its app has done with; with 0 at once, as the drain is over."""
    try:
        if code:
            ws.close(code)
            ws.wait_sent()
        else:
            ws.go_away(1001, "the server is going away")
    finally:
        ws.keeper.remove(ws)
        ws.leave_rooms()


def serve(ws: WebSocket, function: Callable[..., Any], *arguments: Any, **named: Any) -> None:
    """Runs an app's function for a WebSocket, and ends it: with 1011 when it raises.

    That the client has gone while it was sent something is not the function's fault.
    """
    code = 1011
    try:
        function(ws, *arguments, **named)
        code = 1000
    except WebSocketClosed:
        if not ws.closed:
            raise  # of another one, which is
    except GreenletExit:
        code = 0
        raise
    finally:
        finish(ws, code)
