"""The socklet `chat`: rooms in which people talk. What it says and takes is JSON, one object a message.

A client connects with `?room=ROOM&name=NAME`, and sends `{"say": "text"}`. It gets, each with `type`:
- `welcome` with its `name`, the `members` of the room and its `history`, first of all
- `joined` and `left` with a `name`
- `said` with `name`, `text` and `at` (Unix seconds)
- `refused` with `why`, when what it sent was none of the above, or too much

It is closed with 4000 (no good name or room), 4001 (the name is taken), 4002 (the room is full, or there are too many).
"""

from __future__ import annotations

import json
import time
from collections import deque
from typing import Any

from hemi.component import prop
from hemi.library.tokenbucket import TokenBuckets
from hemi.values import Size
from hemi.web.socklet import Socklet
from hemi.web.websocket import Room, WebSocket

BAD_NAME, TAKEN, FULL = 4000, 4001, 4002
LONGEST = 64


class ChatRoom:
    """A room, the names of its members, and what was said last."""

    def __init__(self, name: str, history: int) -> None:
        self.room = Room(name)
        self.names: dict[str, WebSocket] = {}
        self.history: deque[dict[str, Any]] = deque(maxlen=history)

    def tell(self, what: dict[str, Any]) -> None:
        """Says something to all members."""
        self.room.broadcast(json.dumps(what, ensure_ascii=False))


class ChatSocklet(Socklet, sign="chat"):
    """Rooms in which people talk, for the page in apps/examples/chat.

    A room is in the memory of a worker: run it with one worker.
    """

    max_rooms: int = prop(1000, "How many rooms there may be.", least=1, inherit=False)
    max_members: int = prop(200, "How many may be in a room.", least=1, inherit=False)
    max_text: int = prop(2000, "How many characters one may say at once.", least=1, inherit=False)
    max_rate: float = prop(
        5.0, "How often one may say something, on average, a second.", least=0.1, inherit=False
    )
    history: int = prop(
        50, "How many things that were said a newcomer sees.", least=0, most=10000, inherit=False
    )
    max_message_size: Size = prop("64K", "The largest message that is taken.", least=1)

    def prepare(self) -> None:
        """There are no rooms at first."""
        self.rooms: dict[str, ChatRoom] = {}
        self._buckets = TokenBuckets(self.max_rate, max(5.0, self.max_rate * 2), 65536)

    def serve(self, ws: WebSocket) -> None:
        """Lets one member in, and out at the end."""
        room_name, name = _named(ws, "room", "lobby"), _named(ws, "name")
        if not name or not room_name:
            ws.close(BAD_NAME, "names and rooms must have 1 to 64 printable characters")
            return
        place = self.rooms.get(room_name)
        if place is None:
            if len(self.rooms) >= self.max_rooms:
                ws.close(FULL, "there are too many rooms")
                return
            place = self.rooms[room_name] = ChatRoom(room_name, self.history)
        if name in place.names:
            ws.close(TAKEN, "somebody has this name")
            return
        if len(place.names) >= self.max_members:
            ws.close(FULL, "the room is full")
            return
        self._attend(ws, name, place)

    def _attend(self, ws: WebSocket, name: str, place: ChatRoom) -> None:
        place.tell({"type": "joined", "name": name})
        place.names[name] = ws
        place.room.join(ws)
        try:
            told = {"members": sorted(place.names), "history": list(place.history)}
            ws.send(json.dumps({"type": "welcome", "name": name, **told}, ensure_ascii=False))
            for message in ws:
                why = self._say(message, name, place)
                if why:
                    ws.send(json.dumps({"type": "refused", "why": why}))
        finally:
            place.room.leave(ws)
            del place.names[name]
            if place.names:
                place.tell({"type": "left", "name": name})
            else:
                self.rooms.pop(place.room.name, None)

    def _say(self, message: str | bytes, name: str, place: ChatRoom) -> str:
        """Says what a member wants to say; why not, if it may not."""
        try:
            text = json.loads(message)["say"]
        except (ValueError, TypeError, KeyError, RecursionError):
            text = None
        if not isinstance(text, str) or not text.strip():
            return 'a message must be {"say": "text"}'
        if len(text) > self.max_text:
            return f"say at most {self.max_text} characters at once"
        if not self._may_speak(f"{place.room.name}\0{name}"):
            return "you speak too fast"
        said = {"type": "said", "name": name, "text": text, "at": round(time.time(), 3)}
        place.history.append(said)
        place.tell(said)
        return ""

    def _may_speak(self, key: str) -> bool:
        return self._buckets.take(key, time.monotonic()).allowed


def _named(ws: WebSocket, what: str, default: str = "") -> str:
    """A name out of the query, "" for one that is not good."""
    text = (ws.request.query(what) or default).strip()
    return text if len(text) <= LONGEST and text.isprintable() else ""
