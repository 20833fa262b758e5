"""Rooms: messages to many, and members that are too slow for them."""

from __future__ import annotations

import gc
from typing import Any

import gevent
from wsproto.extensions import PerMessageDeflate

from hemi.web.websocket import Room, Rooms, WebSocket
from tests.web.websocket.wskit import open_ws, random_bytes, serving
from tests.webkit import until


def test_members_get_what_is_said() -> None:
    room = Room("r")

    def app(ws: WebSocket) -> None:
        room.join(ws)
        assert ws in room
        for message in ws:
            assert room.broadcast(message, but=ws) == len(room) - 1

    with serving(app) as site:
        members = [
            open_ws(site),
            open_ws(site, deflate=True),
            open_ws(site, deflate=PerMessageDeflate(server_max_window_bits=9)),
        ]
        until(lambda: len(room) == 3)
        for message in ("short", "long " * 100, b"bytes"):
            members[0].send(message)
            for other in members[1:]:
                assert other.receive() == message
        members[1].send("x")
        assert members[0].receive() == "x"
        assert members[2].receive() == "x"
        members[2].close()
        members[2].end()
        until(lambda: len(room) == 2)
        for ws in room:
            room.leave(ws)
            room.leave(ws)
        assert len(room) == 0
        assert repr(room) == "<Room r members=0>"
        for member in members:
            member.client.close()


def test_one_that_has_ended_is_not_taken() -> None:
    room = Room()
    seen: list[bool] = []

    def app(ws: WebSocket) -> None:
        ws.close()
        room.join(ws)
        seen.append(ws in room)

    with serving(app) as site, open_ws(site) as ws:
        ws.end()
        assert until(lambda: seen) == [False]


def test_slow_members_are_dropped_and_hold_nobody() -> None:
    room = Room("news")

    def app(ws: WebSocket) -> None:
        room.join(ws)
        for _ in ws:
            pass

    with serving(app, max_queue_size="64K", close_timeout="200ms") as site:
        slow, fast = open_ws(site), open_ws(site)
        until(lambda: len(room) == 2)
        message = random_bytes(60_000)
        got: list[Any] = []

        def read() -> None:
            while len(got) < 200:
                got.append(fast.receive())

        reader = gevent.spawn(read)
        for number in range(200):
            room.broadcast(message)
            until(lambda number=number: len(got) > number)
        reader.join(10)
        assert got == [message] * 200
        assert len(room) == 1
        assert "is too slow for the room 'news'" in site.log.of("info", "websocket")[0].message
        until(lambda: len(site.access) == 1)  # cut, as it did not even take the reason
        slow.client.close()
        fast.client.close()


def test_rooms_by_name() -> None:
    rooms = Rooms()

    def app(ws: WebSocket) -> None:
        rooms[str(ws.request.query("room"))].join(ws)
        for message in ws:
            rooms[str(ws.request.query("room"))].broadcast(message)

    with serving(app) as site, open_ws(site, "/?room=a") as one, open_ws(site, "/?room=b") as other:
        until(lambda: len(rooms) == 2)
        one.send("1")
        other.send("2")
        assert (one.receive(), other.receive()) == ("1", "2")
        assert sorted(room.name for room in rooms) == ["a", "b"]
        one.close()
        one.end()
        until(lambda: gc.collect() >= 0 and len(rooms) == 1)
        assert rooms["a"] is not rooms["b"]
