"""WebSockets for WSGI apps: by the real libraries that apps use, and by hand."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from time import monotonic
from types import ModuleType
from typing import Any

import gevent
import pytest
from wsproto.events import CloseConnection
from wsproto.extensions import PerMessageDeflate

import hemi.builtin.handlets.wsgi  # noqa: F401
from hemi.web.websocket.keeper import keeper_of
from tests import webkit
from tests.h2client import H2Client
from tests.web.websocket.wskit import ACCEPTED, FIELDS, H2Tunnel, WSClient, frame, open_ws
from tests.webkit import Site, dial, until


@contextmanager
def mounted(app: Callable[..., Any], **properties: Any) -> Iterator[Site]:
    """A site that runs a WSGI app."""
    module: Any = ModuleType(f"websocket_app_{id(app)}")
    module.app = app
    sys.modules[module.__name__] = module
    try:
        handlet = {"wsgi": {"app": f"{module.__name__}:app", **properties}}
        with webkit.running(webkit.config(rules=[{"handlets": [handlet]}])) as site:
            yield site
    finally:
        del sys.modules[module.__name__]


def test_flask_sock() -> None:
    import flask
    from flask_sock import Sock

    app = flask.Flask("chat")
    app.config["SOCK_SERVER_OPTIONS"] = {"subprotocols": ["chat"]}
    sock = Sock(app)

    @sock.route("/echo/<name>")
    def echo(ws: Any, name: str) -> None:
        while (message := ws.receive()) != "end":
            ws.send(f"{name}: {message}" if isinstance(message, str) else message)

    @app.get("/")
    def home() -> str:
        return "home"

    with mounted(app) as site:
        assert site.get("/").content == b"home"
        with open_ws(site, "/echo/me", Sec_WebSocket_Protocol="chat") as ws:
            assert ws.subprotocol == "chat"
            for _ in range(3):
                ws.send("ü")
                assert ws.receive() == "me: ü"
            ws.send(b"x" * 100_000)
            assert ws.receive() == b"x" * 100_000
            ws.send("end")
            assert ws.end() == (1000, "")
        with open_ws(site, "/echo/me", deflate=True) as ws:
            ws.send("hello " * 100)
            assert ws.receive() == "me: " + "hello " * 100
            ws.close(1000)
            assert ws.end() == (1000, "")
        until(lambda: len(site.access) == 3)
        assert [access.status for access in site.access] == [200, 101, 101]
        assert site.access[1].bytes_sent > 100_000
        assert not site.log.of("error")


def test_clients_of_flask_sock_that_leave() -> None:
    import flask
    from flask_sock import Sock

    app = flask.Flask("chat")
    sock = Sock(app)
    ended: list[str] = []

    @sock.route("/")
    def echo(ws: Any) -> None:
        try:
            while True:
                ws.receive()
        finally:
            ended.append("yes")

    with mounted(app, close_timeout="1s") as site:
        with open_ws(site):
            pass
        until(lambda: ended)
        until(lambda: len(site.access) == 1)
        assert not site.log.of("error")


def test_flask_sock_when_the_stage_goes() -> None:
    import flask
    from flask_sock import Sock

    app = flask.Flask("chat")
    sock = Sock(app)

    @sock.route("/")
    def echo(ws: Any) -> None:
        while True:
            ws.send(ws.receive())

    with mounted(app) as site, open_ws(site) as ws:
        ws.send("x")
        assert ws.receive() == "x"
        keeper_of(site.stage).drain(monotonic() + 30, at_once=True)
        assert ws.end() == (1001, "the server is going away")


def test_gevent_websocket() -> None:
    from geventwebsocket.exceptions import WebSocketError

    seen: list[Any] = []

    def app(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        ws = environ.get("wsgi.websocket")
        if ws is None:
            start_response("200 OK", [("Content-Type", "text/plain")])
            return [b"no websocket"]
        seen.append(
            (ws.path, ws.origin, ws.version, ws.protocol, ws.closed, environ["wsgi.websocket_version"])
        )
        while not ws.closed:
            message = ws.receive()
            if message is None:
                break
            ws.send(message)
        with pytest.raises(WebSocketError):
            ws.send("more")
        with pytest.raises(WebSocketError):
            ws.receive()
        seen.append("end")
        return []

    with mounted(app) as site:
        assert site.get("/").content == b"no websocket"
        with open_ws(site, "/p", Origin="http://a.example") as ws:
            for message in ("text", b"bytes", "x" * 1000):
                ws.send(message)
                assert ws.receive() == message
            ws.close()
            assert ws.end() == (1000, "")
        until(lambda: seen[1:])
        assert seen == [("/p", "http://a.example", "13", None, False, "13"), "end"]
        assert not site.log.of("error")


def test_what_gevent_websocket_can_send() -> None:
    def app(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        ws = environ["wsgi.websocket"]
        ws.send("a", binary=True)
        ws.send(b"b", binary=False)
        ws.send_frame(b"c", 1)
        ws.send_frame("d", 2)
        ws.send_frame(b"", 9)
        ws.close(4000, b"bye")
        return []

    with mounted(app) as site, open_ws(site) as ws:
        assert [ws.receive() for _ in range(4)] == [b"a", "b", "c", b"d"]
        assert ws.end() == (4000, "bye")


@pytest.mark.parametrize("mode", ["gevent", "threading"])
def test_socketio(mode: str) -> None:
    """Its own client, by polling first and WebSocket then, and by WebSocket at once."""
    import socketio

    server = socketio.Server(async_mode=mode, cors_allowed_origins=[])

    @server.event
    def ask(sid: str, data: Any) -> Any:
        server.emit("told", {"got": data}, to=sid)
        return data

    with mounted(socketio.WSGIApp(server)) as site:
        for transports in (["websocket"], ["polling", "websocket"]):
            client = socketio.Client(reconnection=False)
            told: list[Any] = []
            client.on("told", told.append)
            client.connect(f"http://{site.address}", transports=transports, wait_timeout=5)
            assert client.transport() == "websocket" or until(
                lambda client=client: client.transport() == "websocket"
            )
            assert client.call("ask", {"n": 1}, timeout=5) == {"n": 1}
            until(lambda told=told: told)
            assert told == [{"got": {"n": 1}}]
            client.disconnect()
            client.wait()
        until(lambda: any(access.status == 101 for access in site.access))
        assert not site.log.of("error")


def test_an_app_that_knows_nothing_of_it() -> None:
    def app(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        start_response("404 Not Found", [("Content-Type", "text/plain")])
        return [b"no"]

    with mounted(app) as site, site.connect() as client:
        for _ in range(2):
            client.request("GET", "/", FIELDS)
            answer = client.answer()
            assert (answer.status, answer.content) == (404, b"no")


def test_an_app_that_raises() -> None:
    def app(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        if environ["PATH_INFO"] == "/late":
            environ["wsgi.websocket"].send("x")
        raise RuntimeError("oops")

    with mounted(app) as site:
        with site.connect() as client:
            client.request("GET", "/", FIELDS)
            assert client.answer().status == 500
        with open_ws(site, "/late") as ws:
            assert ws.receive() == "x"
            assert ws.end()[0] == 1000
        assert [str(entry.exc) for entry in until(lambda: site.log.of("error"))] == ["oops"] * 2


def test_pages_of_other_sites() -> None:
    called: list[Any] = []

    def app(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        called.append(environ)
        environ["wsgi.websocket"].send("x")
        return []

    fields = {**FIELDS, "Origin": "http://evil.example"}
    with mounted(app) as site, site.connect() as client:
        client.request("GET", "/", fields)
        assert client.answer().status == 403
        assert not called
    with mounted(app, origins=["*"]) as site, site.connect() as client:
        client.request("GET", "/", fields)
        assert client.answer().status == 101


def test_by_hand_on_the_socket() -> None:
    def app(environ: dict[str, Any], start_response: Any) -> Iterator[bytes]:
        sock = environ["werkzeug.socket"]
        sock.sendall(
            b"HTTP/1.1 101 Yes\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nX-Own: 1\r\n\r\n\x81\x01a"
        )
        while data := sock.recv(100):
            sock.sendall(b"\x82\x01" + data[-1:])
        return iter(())

    with mounted(app, close_timeout="100ms") as site, site.connect() as client:
        client.request("GET", "/", FIELDS)
        answer = client.answer()
        assert (answer.status, answer.header("x-own"), answer.header("upgrade")) == (101, "1", "websocket")
        assert client.exactly(3) == b"\x81\x01a"
        client.send(frame(0x82, b"z", b"\0\0\0\0"))
        assert client.exactly(3) == b"\x82\x01z"
        client.shutdown()
        assert client.rest() == b""


@pytest.mark.parametrize(
    ("answer", "status"),
    [
        (b"HTTP/1.1 403 No\r\n\r\n", 403),
        (b"HTTP/1.1 200 OK\r\n\r\n", 500),
        (b"garbage\r\n\r\n", 500),
        (b"HTTP/1.1 101 S\r\na b: c\r\n\r\n", 500),
    ],
)
def test_refusals_on_the_socket(answer: bytes, status: int) -> None:
    def app(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        environ["werkzeug.socket"].sendall(answer)
        return []

    with mounted(app) as site, site.connect() as client:
        client.request("GET", "/", FIELDS)
        assert client.answer().status == status


def test_the_end_of_a_stage() -> None:
    import flask
    from flask_sock import Sock

    app = flask.Flask("chat")
    sock = Sock(app)

    @sock.route("/")
    def echo(ws: Any) -> None:
        while True:
            ws.send(ws.receive())

    with mounted(app, close_timeout="1s") as site, open_ws(site) as ws:
        ws.send("x")
        assert ws.receive() == "x"
        stopping = gevent.spawn(site.stage.stop, gevent.get_hub().loop.now() + 1e9)
        event = ws.event()
        assert event is None or isinstance(event, CloseConnection)
        ws.client.close()
        stopping.join(5)
        assert stopping.ready()


def test_over_http2() -> None:
    import flask
    from flask_sock import Sock

    app = flask.Flask("chat")
    sock = Sock(app)

    @sock.route("/echo")
    def echo(ws: Any) -> None:
        while (message := ws.receive()) != "end":
            ws.send(message)

    @app.route("/polite", websocket=True)
    def polite() -> str:
        ws = flask.request.environ["wsgi.websocket"]
        while (message := ws.receive()) is not None:
            ws.send(message)
        return ""

    with mounted(app) as site:
        for path in ("/echo", "/polite"):
            client = H2Tunnel(H2Client(dial(site.address)))
            with WSClient(client, path, PerMessageDeflate()) as ws:
                for message in ("ü", "x" * 100_000, b"y"):
                    ws.send(message)
                    assert ws.receive() == message
                ws.close()
                assert ws.end() == (1000, "")
        until(lambda: len(site.access) == 2)
        assert [access.status for access in site.access] == [101, 101]
        assert not site.log.of("error")


@pytest.mark.parametrize("way", ["polite", "socket"])
def test_apps_that_do_not_notice_the_end_of_a_stage_are_cut(way: str) -> None:
    def app(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        if way == "polite":
            environ["wsgi.websocket"].send("x")
        else:
            head = b"HTTP/1.1 101 S\r\nSec-WebSocket-Accept: " + ACCEPTED.encode() + b"\r\n\r\n\x81\x01x"
            environ["werkzeug.socket"].sendall(head)
        gevent.sleep(60)
        return []

    with mounted(app) as site, open_ws(site) as ws:
        assert ws.receive() == "x"
        stopping = gevent.spawn(site.stage.stop, monotonic() + 0.2)
        stopping.join(5)
        assert stopping.ready()
        assert not site.conns
