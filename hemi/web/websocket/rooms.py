"""Rooms: WebSockets that get the same messages. Sending to a room waits for nobody.

    lobby = Room("lobby")

    class Chat(Socklet, sign="chat"):
        def serve(self, ws):
            lobby.join(ws)                       # it leaves when it ends
            for message in ws:
                lobby.broadcast(message)

A room has the members of one process. What must reach the clients of all workers goes through something that they
share, such as Redis, and from there to the rooms of each.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING
from weakref import WeakValueDictionary

from hemi.web.websocket.deflate import LEAST, deflate
from hemi.web.websocket.frames import BINARY, TEXT, build_frame

if TYPE_CHECKING:
    from hemi.web.websocket.connection import WebSocket

__all__ = ["Room", "Rooms"]

TRY_AGAIN_LATER = 1013


class Room:
    """WebSockets that get the same messages.

    A member for which more than `max_queue_size` of its terms would wait is too slow: it is told so (1013), logged and
    cut, so that it can come back and ask for what it has missed.
    """

    __slots__ = ("__weakref__", "_members", "name")

    def __init__(self, name: str = "") -> None:
        self.name = name
        self._members: set[WebSocket] = set()

    def __repr__(self) -> str:
        return f"<Room {self.name} members={len(self._members)}>"

    def __len__(self) -> int:
        return len(self._members)

    def __iter__(self) -> Iterator[WebSocket]:
        return iter(list(self._members))

    def __contains__(self, ws: WebSocket) -> bool:
        return ws in self._members

    def join(self, ws: WebSocket) -> None:
        """Takes a WebSocket in, until it leaves or ends. Idempotent; one that has ended is not taken."""
        if ws.closed:
            return
        self._members.add(ws)
        if ws.rooms is None:
            ws.rooms = set()
        ws.rooms.add(self)

    def leave(self, ws: WebSocket) -> None:
        """Lets a WebSocket go. Idempotent."""
        self._members.discard(ws)
        if ws.rooms is not None:
            ws.rooms.discard(self)

    def broadcast(self, message: str | bytes, but: WebSocket | None = None) -> int:
        """Sends a message to all members, except one; returns how many get it. Never waits."""
        if isinstance(message, str):
            opcode, payload = TEXT, message.encode()
        else:
            opcode, payload = BINARY, bytes(message)
        plain = build_frame(opcode, payload)
        packed: dict[int, bytes] = {}
        reached = 0
        for ws in list(self._members):
            if ws is but:
                continue
            frame = plain
            if ws.bits and len(payload) >= LEAST:
                known = packed.get(ws.bits)
                frame = known or packed.setdefault(
                    ws.bits, build_frame(opcode, deflate(payload, ws.bits), True)
                )
            if ws.offer(frame, ws.terms.max_queue_size):
                reached += 1
            elif not ws.closed:
                ws.drop(TRY_AGAIN_LATER, f"is too slow for the room {self.name!r}")
        return reached


class Rooms:
    """Rooms by name. A room is there while it has members, or somebody holds it."""

    __slots__ = ("_rooms",)

    def __init__(self) -> None:
        self._rooms: WeakValueDictionary[str, Room] = WeakValueDictionary()

    def __repr__(self) -> str:
        return f"<Rooms {len(self._rooms)}>"

    def __len__(self) -> int:
        return len(self._rooms)

    def __iter__(self) -> Iterator[Room]:
        return iter(list(self._rooms.values()))

    def __getitem__(self, name: str) -> Room:
        """The room of a name, an empty one if there is none yet."""
        room = self._rooms.get(name)
        if room is None:
            room = self._rooms[name] = Room(name)
        return room
