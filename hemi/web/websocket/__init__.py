"""WebSockets (RFC 6455, 7692, 8441), a server's side, for whoever serves them: socklets, the framework, WSGI apps.

frames.py       bytes to messages and back
deflate.py      permessage-deflate
handshake.py    is it one, and may it be
terms.py        the properties of components that serve WebSockets
connection.py   the WebSocket that apps use
keeper.py       pings, and the end of a stage
rooms.py        messages to many
serving.py      from the handshake to the end
"""

from hemi.web.websocket.connection import WebSocket, WebSocketClosed
from hemi.web.websocket.rooms import Room, Rooms
from hemi.web.websocket.terms import WebSocketTerms

__all__ = ["Room", "Rooms", "WebSocket", "WebSocketClosed", "WebSocketTerms"]
