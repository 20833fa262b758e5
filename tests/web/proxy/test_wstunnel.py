"""Tunnels of WebSockets at the end of their stage: over socket pairs, then from a client to a node."""

from __future__ import annotations

import math
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from time import monotonic

import gevent
import pytest
from wsproto.events import CloseConnection

import hemi.builtin.socklets.ws_proxy  # noqa: F401
from hemi.web.proxy.wstunnel import ANSWER, WebSocketTunnel
from hemi.web.websocket import WebSocket
from hemi.web.websocket.frames import (
    BINARY,
    CLOSE,
    TEXT,
    Control,
    Decoder,
    build_frame,
    close_payload,
    parse_close,
)
from hemi.web.websocket.keeper import FAREWELL, Keeper, keeper_of
from tests.test_sockets import pair
from tests.web.proxy.proxykit import proxying
from tests.web.websocket.wskit import frame, open_ws, serving
from tests.webkit import Log, Site, until
from tests.wires import HTTP1, HTTP2, Wire

GOING = build_frame(CLOSE, close_payload(1001, "going"))


class FakeStage:
    log = Log()


class Middle:
    """A tunnel between two sockets of the test."""

    def __init__(self) -> None:
        client, self.client = pair()
        node, self.node = pair()
        self.channels = (client, node)
        self.keeper = Keeper(FakeStage())  # type: ignore[arg-type]
        self.tunnel = WebSocketTunnel(client, node, 30.0, self.keeper)
        self.greenlet = gevent.spawn(self.tunnel.run)
        for sock in (self.client, self.node):
            sock.settimeout(30)
        until(lambda: self.keeper.members)

    def pass_down(self, data: bytes) -> None:
        self.node.sendall(data)
        self.take(self.client, data)

    def pass_up(self, data: bytes) -> None:
        self.client.sendall(data)
        self.take(self.node, data)

    @staticmethod
    def take(sock: socket.socket, expected: bytes) -> None:
        got = b""
        while len(got) < len(expected):
            piece = sock.recv(len(expected) - len(got))
            assert piece, f"it ended behind {got!r}"
            got += piece
        assert got == expected

    def go(self) -> None:
        self.tunnel.go_away(1001, "going")

    def look(self) -> None:
        """The time to answer has passed."""
        assert self.tunnel.due <= monotonic() + ANSWER
        self.tunnel.look(monotonic())


@contextmanager
def middle() -> Iterator[Middle]:
    made = Middle()
    try:
        yield made
        made.client.close()
        made.node.close()
        made.greenlet.join(30)
        assert made.greenlet.successful(), "it does not end"
        assert not made.keeper.members
    finally:
        made.greenlet.kill()
        for one in (made.client, made.node, *made.channels):
            one.close()


def test_the_client_is_told_and_the_node_hears_its_answer() -> None:
    with middle() as one:
        one.pass_up(frame(0x81, b"hello"))
        one.pass_down(build_frame(TEXT, b"hello"))
        one.go()
        one.take(one.client, GOING)
        one.node.sendall(build_frame(TEXT, b"too late"))
        one.pass_up(frame(0x81, b"what was on its way") + frame(0x88, close_payload(1001, "")))
        one.node.close()
        assert one.client.recv(100) == b"", "nothing comes behind a close frame"
        assert one.tunnel.sent == len(build_frame(TEXT, b"hello") + GOING)


def test_not_in_the_middle_of_a_frame() -> None:
    large = build_frame(BINARY, bytes(100_000))
    with middle() as one:
        one.pass_down(large[:50_000])
        one.go()
        one.pass_down(large[50_000:60_000])
        one.node.sendall(large[60_000:] + build_frame(TEXT, b"another one"))
        one.take(one.client, large[60_000:] + GOING)


def test_nor_in_the_middle_of_a_head() -> None:
    large = build_frame(BINARY, bytes(200))
    with middle() as one:
        one.pass_down(large[:3])
        one.go()
        one.node.sendall(large[3:])
        one.take(one.client, large[3:] + GOING)


def test_while_the_client_is_slow() -> None:
    large = build_frame(BINARY, bytes(8_000_000))
    with middle() as one:
        sender = gevent.spawn(one.node.sendall, large + build_frame(TEXT, b"another one"))
        until(lambda: one.channels[0].writing)
        one.go()
        one.take(one.client, large + GOING)
        sender.join(30)


def test_in_place_of_a_client_that_does_not_answer() -> None:
    with middle() as one:
        one.go()
        one.take(one.client, GOING)
        one.look()
        decoder = Decoder(1000, 1000)
        item = None
        while item is None:
            decoder.feed(one.node.recv(100))
            item = decoder.next()
        assert isinstance(item, Control)
        assert parse_close(item.payload) == (1001, "going")
        one.client.sendall(frame(0x81, b"too late"))
        one.look()
        assert one.node.recv(100) == b""
        one.greenlet.join(30)
        assert one.greenlet.successful()
        assert one.tunnel.due == math.inf


def test_not_in_the_middle_of_its_frame() -> None:
    with middle() as one:
        one.pass_up(frame(0x81, b"a long message")[:9])
        one.go()
        one.take(one.client, GOING)
        one.look()
        one.look()
        assert one.node.recv(100) == b""


@pytest.mark.parametrize("who", ["node", "client"])
def test_one_that_ends_already(who: str) -> None:
    with middle() as one:
        if who == "node":
            one.pass_down(build_frame(CLOSE, close_payload(4000, "")))
            one.go()
        else:
            one.pass_up(frame(0x88, close_payload(4000, "")))
            one.go()
            one.pass_down(build_frame(CLOSE, close_payload(4000, "")))
        one.client.close() if who == "client" else one.node.close()
        assert one.tunnel.closed
        assert one.tunnel.due == math.inf


def test_what_are_no_frames_is_left_alone() -> None:
    with middle() as one:
        one.pass_down(b"neither masked nor measured \xff\xff")
        one.go()
        one.pass_down(b"more of it")
        one.pass_up(b"and back")
        one.node.close()
        assert one.client.recv(100) == b""


def test_who_comes_late_is_told_at_once() -> None:
    client, theirs = pair()
    node, node_side = pair()
    keeper = Keeper(FakeStage())  # type: ignore[arg-type]
    keeper.drain(monotonic() + 5, at_once=True)
    tunnel = WebSocketTunnel(client, node, 30.0, keeper)
    greenlet = gevent.spawn(tunnel.run, b"", build_frame(TEXT, b"welcome"))
    theirs.settimeout(30)
    expected = build_frame(CLOSE, close_payload(1001, "the server is going away"))
    Middle.take(theirs, expected)
    for sock in (theirs, node_side):
        sock.close()
    greenlet.join(30)
    assert greenlet.successful()
    for channel in (client, node):
        channel.close()


def test_both_answers_fit_into_the_farewell() -> None:
    assert 2 * ANSWER < FAREWELL


# From a client to a node


class Origin:
    """Echoes, and notes with what each WebSocket has ended."""

    def __init__(self) -> None:
        self.ends: list[tuple[int, str]] = []

    def __call__(self, ws: WebSocket) -> None:
        for message in ws:
            ws.send(message)
        self.ends.append((ws.close_code, ws.close_reason))


def leave(site: Site) -> None:
    keeper_of(site.stage).drain(monotonic() + 30, at_once=True)


@pytest.mark.parametrize("version", [1.1, 2])
@pytest.mark.parametrize("name", ["h1", "h2c"])
def test_over_any_versions(name: str, version: float, tmp_path: Path) -> None:
    wire = Wire(name, "tcp", HTTP1 if name == "h1" else HTTP2, tmp_path)
    origin = Origin()
    with serving(origin) as node:
        backend = {"type": "http_backend", "nodes": [{"address": node.address}], "version": version}
        rules = [{"socklets": [{"ws_proxy": {"to_backend": "up"}}]}]
        with (
            wire.serve(rules=rules, stage={"backends": {"up": backend}}, address="127.0.0.2:0") as site,
            open_ws(site, wire=wire) as ws,
        ):
            ws.send("before")
            assert ws.receive() == "before"
            leave(site)
            assert ws.end() == (1001, "the server is going away")
            until(lambda: origin.ends)
    assert origin.ends == [(1001, "the server is going away")] or origin.ends == [(1001, "")]


def test_http_proxy_as_well() -> None:
    origin = Origin()
    with serving(origin) as node, proxying(node.address, address="127.0.0.2:0") as site, open_ws(site) as ws:
        ws.send("before")
        assert ws.receive() == "before"
        leave(site)
        event = ws.receive()
        assert isinstance(event, CloseConnection)
        assert event.code == 1001
        until(lambda: origin.ends)  # the client says nothing
    assert origin.ends == [(1001, "the server is going away")]
