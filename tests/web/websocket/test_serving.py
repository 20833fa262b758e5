"""WebSockets from the handshake to the end, as clients see them."""

from __future__ import annotations

from time import monotonic

import gevent
import pytest
from wsproto.events import CloseConnection, Ping, Pong

from hemi.web.websocket import WebSocket, WebSocketClosed
from tests.web.websocket.wskit import FIELDS, frame, open_ws, random_bytes, serving
from tests.webkit import until


def test_messages_both_ways() -> None:
    with serving() as site, open_ws(site) as ws:
        for message in (
            "a",
            "",
            b"",
            b"\0\xff",
            "ü" * 1000,
            random_bytes(70_000),
            "x" * 125,
            "y" * 126,
            b"z" * 65536,
        ):
            ws.send(message)
            assert ws.receive() == message
        ws.ping(b"now")
        assert ws.event() == Pong(b"now")
        ws.close(3000, "bye")
        assert ws.end() == (3000, "")
        until(lambda: site.access)
        assert site.access[0].status == 101
        assert site.access[0].bytes_sent > 137_000


def test_fragments_with_pings_between() -> None:
    with serving() as site, open_ws(site) as ws:
        text = "a€b" * 3
        data = text.encode()
        ws.raw(frame(0x01, data[:2]) + frame(0x89, b"p") + frame(0x00, data[2:3]) + frame(0x80, data[3:]))
        assert ws.event() == Pong(b"p")
        assert ws.receive() == text
        ws.raw(frame(0x02) + frame(0x00) + frame(0x80, b"x"))
        assert ws.receive() == b"x"


def test_bytes_that_come_one_by_one_and_many_at_once() -> None:
    with serving() as site, open_ws(site) as ws:
        message = frame(0x81, b"x" * 200)
        ws.client.drip(message)
        assert ws.receive() == "x" * 200
        ws.raw(frame(0x82, b"1") * 1000)
        assert [ws.receive() for _ in range(1000)] == [b"1"] * 1000


def test_what_came_with_the_handshake() -> None:
    with serving() as site, site.connect() as client:
        head = "GET / HTTP/1.1\r\nHost: a\r\n" + "".join(
            f"{name}: {value}\r\n" for name, value in FIELDS.items()
        )
        client.send(head.encode() + b"\r\n" + frame(0x81, b"early"))
        assert client.answer().status == 101
        assert client.exactly(7) == b"\x81\x05early"


def test_deflate() -> None:
    with serving() as site, open_ws(site, deflate=True) as ws:
        assert ws.extensions == (
            "permessage-deflate; client_no_context_takeover; server_no_context_takeover; server_max_window_bits=15"
        )
        for message in ("a", "x" * 100_000, random_bytes(40_000), b"", "y" * 300):
            ws.send(message)
            assert ws.receive() == message
        until(lambda: True)
        ws.close()
        ws.end()
        until(lambda: site.access)
        assert site.access[0].bytes_sent < 43_000
    with serving(deflate=False) as site, open_ws(site, deflate=True) as ws:
        assert ws.extensions is None


def test_the_app_ends_it() -> None:
    def app(ws: WebSocket) -> None:
        ws.send("bye")
        ws.close(4001, "enough")
        assert (ws.closed, ws.close_code, ws.close_reason) == (True, 4001, "enough")
        assert ws.receive() is None
        with pytest.raises(WebSocketClosed, match="4001 enough"):
            ws.send("more")
        ws.close(4002)

    with serving(app) as site, open_ws(site) as ws:
        assert ws.receive() == "bye"
        assert ws.end() == (4001, "enough")
        assert not site.log.of("error")
    with serving(lambda ws: None) as site, open_ws(site) as ws:
        assert ws.end() == (1000, "")


def test_an_app_that_raises() -> None:
    def app(ws: WebSocket) -> None:
        raise RuntimeError("oops")

    with serving(app) as site, open_ws(site) as ws:
        assert ws.end() == (1011, "")
        (entry,) = until(lambda: site.log.of("error"))
        assert "failed at GET /" in entry.message
        assert str(entry.exc) == "oops"


def test_clients_that_leave() -> None:
    seen: list[tuple[int, object]] = []

    def app(ws: WebSocket) -> None:
        last = ws.receive()
        seen.append((ws.close_code, last))
        ws.send("x")

    with serving(app) as site:
        with open_ws(site):
            pass
        assert until(lambda: seen) == [(1006, None)]
        with open_ws(site) as ws:
            ws.raw(frame(0x88))
            assert ws.end() == (1005, "")
        assert until(lambda: seen[1:]) == [(1005, None)]
        until(lambda: len(site.access) == 2)
        assert not site.log.of("error")


def test_a_timeout_of_receiving() -> None:
    def app(ws: WebSocket) -> None:
        with pytest.raises(TimeoutError, match=r"0\.01 seconds"):
            ws.receive(0.01)
        ws.send("still here")
        ws.send(ws.receive(5) or "")

    with serving(app) as site, open_ws(site) as ws:
        assert ws.receive() == "still here"
        ws.send("fine")
        assert ws.receive() == "fine"
        assert ws.end() == (1000, "")


def test_senders_do_not_mix_their_frames() -> None:
    def app(ws: WebSocket) -> None:
        def send(text: str) -> None:
            for _ in range(20):
                ws.send(text * 30_000)

        gevent.joinall([gevent.spawn(send, text) for text in "abc"], raise_error=True)

    with serving(app) as site, open_ws(site) as ws:
        messages = []
        while isinstance(message := ws.receive(), str):
            assert set(message) <= set("abc")
            assert len(set(message)) == 1 and len(message) == 30_000
            messages.append(message[0])
        assert isinstance(message, CloseConnection)
        assert sorted(messages) == ["a"] * 20 + ["b"] * 20 + ["c"] * 20


def test_apps_that_only_send_still_answer_pings_and_see_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hemi.web.websocket.connection.LOOK_SECONDS", 0.05)
    ended: list[int] = []
    messages: list[object] = []

    def app(ws: WebSocket) -> None:
        try:
            while True:
                ws.send("tick")
                gevent.sleep(0.01)
        finally:
            ended.append(ws.close_code)
            messages.append(ws.receive())
            messages.append(ws.receive())

    with serving(app) as site, open_ws(site) as ws:
        ws.send("hello")
        ws.ping(b"?")
        while (event := ws.event()) != Pong(b"?"):
            assert event == "tick"
        ws.close(1000)
        until(lambda: ended)
        assert ended == [1000]
        assert messages == ["hello", None]


def test_silent_clients_are_asked_and_then_cut() -> None:
    sockets: list[WebSocket] = []

    def app(ws: WebSocket) -> None:
        sockets.append(ws)
        for message in ws:
            ws.send(message)

    with serving(app, ping_interval="1h", ping_timeout="1h") as site, open_ws(site) as client:
        (ws,) = until(lambda: sockets)
        now, hour = float(int(monotonic())), 3600.0  # sums of them are exact
        ws.look(now)
        ws.look(now + hour - 1)
        ws.look(now + hour)
        event = client.event()
        assert isinstance(event, Ping)
        client.client.send(client.ws.send(event.response()))
        until(lambda: ws.heard)
        ws.look(now + hour + 1)
        ws.look(now + hour + hour)
        ws.look(now + hour + hour + 1)
        assert isinstance(client.event(), Ping)
        ws.look(now + hour * 3)
        assert not ws.closed
        ws.look(now + hour * 3 + 1)
        assert (ws.close_code, ws.close_reason) == (1006, "the client did not answer a ping")
        assert "did not answer a ping" in site.log.of("info", "websocket")[0].message
        until(lambda: site.access)


def test_pings_come_by_themselves() -> None:
    with serving(ping_interval="50ms") as site, open_ws(site) as ws:
        for _ in range(2):
            event = ws.event()
            assert isinstance(event, Ping)
            ws.client.send(ws.ws.send(event.response()))


def test_idle_ones_are_ended() -> None:
    sockets: list[WebSocket] = []

    def app(ws: WebSocket) -> None:
        sockets.append(ws)
        for message in ws:
            ws.send(message)

    with serving(app, idle_timeout="1h") as site, open_ws(site) as client:
        (ws,) = until(lambda: sockets)
        before = monotonic()
        client.send("x")
        assert client.receive() == "x"
        after = monotonic()
        ws.look(before + 1)
        ws.look(before + 3600)
        assert not ws.closed
        ws.look(after + 3601)
        assert client.end() == (1001, "nothing was said for too long")


def test_clients_that_do_not_agree_to_the_end_are_cut() -> None:
    with serving(lambda ws: None, close_timeout="100ms") as site, open_ws(site) as ws:
        assert isinstance(ws.receive(), CloseConnection)
        assert ws.client.rest() == b""
        until(lambda: site.access)


def test_the_end_of_a_stage() -> None:
    ended: list[int] = []

    def app(ws: WebSocket) -> None:
        for message in ws:
            ws.send(message)
        ended.append(ws.close_code)

    with serving(app) as site, open_ws(site) as ws:
        stopping = gevent.spawn(site.stage.stop, gevent.get_hub().loop.now() + 1e9)
        assert ws.end() == (1001, "the server is going away")
        stopping.join(5)
        assert stopping.ready()
        assert ended == [1001]


def test_one_greenlet_receives() -> None:
    def app(ws: WebSocket) -> None:
        other = gevent.spawn(ws.receive)
        gevent.idle()
        with pytest.raises(RuntimeError, match="another greenlet"):
            ws.receive()
        ws.send("ok")
        other.get()

    with serving(app) as site, open_ws(site) as ws:
        assert ws.receive() == "ok"
        ws.send("x")
        assert ws.end() == (1000, "")


def test_apps_that_do_not_notice_the_end_of_a_stage_are_cut() -> None:
    def app(ws: WebSocket) -> None:
        gevent.sleep(60)

    with serving(app) as site, open_ws(site) as ws:
        stopping = gevent.spawn(site.stage.stop, monotonic() + 0.2)
        event = ws.receive()
        assert isinstance(event, CloseConnection)
        assert int(event.code) == 1001
        assert ws.client.rest() == b""
        stopping.join(5)
        assert stopping.ready()
        assert not site.conns
