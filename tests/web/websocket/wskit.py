"""WebSockets for tests: sites that serve them by a Python function, and a client whose frames are wsproto's, or raw."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from wsproto import ConnectionType
from wsproto.connection import Connection
from wsproto.events import (
    BytesMessage,
    CloseConnection,
    Message,
    Ping,
    Pong,
    TextMessage,
)
from wsproto.extensions import PerMessageDeflate
from wsproto.utilities import generate_accept_token

from hemi import component as registry
from hemi.component import prop
from hemi.web.socklet import Socklet
from hemi.web.websocket import WebSocket
from tests import webkit
from tests.h2client import H2Client
from tests.webkit import Answer, Client, Site
from tests.wires import Wire

KEY = "dGhlIHNhbXBsZSBub25jZQ=="
FIELDS = {
    "Upgrade": "websocket",
    "Connection": "Upgrade",
    "Sec-WebSocket-Key": KEY,
    "Sec-WebSocket-Version": "13",
}

ACCEPTED = generate_accept_token(KEY.encode()).decode()

_functions: dict[str, Callable[[WebSocket], Any]] = {}


class ScriptedSocklet(Socklet, sign="scripted_socklet"):
    """Runs a Python function of a test."""

    function: str = prop(doc="The key of the function.")

    def serve(self, ws: WebSocket) -> None:
        _functions[self.function](ws)


registry._registry["socklets"].pop("scripted_socklet", None)  # other tests look at all that is registered


def echo(ws: WebSocket) -> None:
    """The least of apps."""
    for message in ws:
        ws.send(message)


@contextmanager
def serving(
    function: Callable[[WebSocket], Any] = echo,
    folder: str | None = None,
    wire: Wire | None = None,
    **more: Any,
) -> Iterator[Site]:
    """A site that serves WebSockets by a function. Keywords with a leading underscore are for `webkit.config`."""
    key = f"function{len(_functions)}"
    _functions[key] = function
    config = {name[1:]: more.pop(name) for name in list(more) if name.startswith("_")}
    rules = [{"socklets": [{"scripted_socklet": {"function": key, **more}}]}]
    table = registry._registry["socklets"]
    table["scripted_socklet"] = ScriptedSocklet
    try:
        if wire is not None:
            manager = wire.serve(rules=rules, **config)
        else:
            manager = webkit.running(webkit.config(rules=rules, **config), folder)
        site = manager.__enter__()
    finally:
        del table["scripted_socklet"]
    try:
        yield site
    finally:
        manager.__exit__(None, None, None)


def frame(
    first: int, payload: bytes = b"", mask: bytes | None = b"\x01\x02\x03\x04", size: int = -1
) -> bytes:
    """A frame as clients send it; `size` lies about the length, `mask` None leaves it unmasked."""
    length = len(payload) if size < 0 else size
    bit = 0x80 if mask is not None else 0
    if length < 126:
        head = bytes((first, bit | length))
    elif length < 65536:
        head = bytes((first, bit | 126)) + length.to_bytes(2)
    else:
        head = bytes((first, bit | 127)) + length.to_bytes(8)
    if mask is None:
        return head + payload
    return head + mask + bytes(byte ^ mask[at & 3] for at, byte in enumerate(payload))


class H2Tunnel:
    """A stream of HTTP/2 that has become a WebSocket (RFC 8441), with what a `WSClient` needs of a `Client`."""

    def __init__(self, client: Any) -> None:
        self.client = client
        self.sock = self
        self.buffer = b""

    def request(self, method: str, target: str, fields: dict[str, str]) -> None:
        left_out = ("upgrade", "connection", "sec-websocket-key")
        rest = [(name.lower(), value) for name, value in fields.items() if name.lower() not in left_out]
        self.exchange = self.client.begin("CONNECT", target, [(":protocol", "websocket"), *rest], open_=True)

    def answer(self) -> Answer:
        while self.exchange.status is None or self.exchange.status < 200:
            self.client.more()
        return Answer("2", self.exchange.status, self.exchange.fields, b"", [], [])

    def send(self, data: bytes) -> None:
        self.client.send_data(self.exchange, data)

    def recv(self, size: int) -> bytes:
        exchange = self.exchange
        while not exchange.pieces and not exchange.ended:
            if exchange.reset is not None:
                raise ConnectionResetError(exchange.reset)
            self.client.more()
        data = b"".join(exchange.pieces)
        exchange.pieces.clear()
        return data

    def rest(self) -> bytes:
        data = self.buffer
        while piece := self.recv(1):
            data += piece
        return data

    def shutdown(self) -> None:
        self.client.send_data(self.exchange, b"", last=True)

    def close(self) -> None:
        self.client.close()


class WSClient:
    """A WebSocket to a site, from the client's side."""

    def __init__(
        self, client: Client | H2Tunnel, target: str = "/", deflate: Any = None, **fields: str
    ) -> None:
        self.client = client
        given = {**FIELDS, **{name.replace("_", "-"): value for name, value in fields.items()}}
        if deflate is not None:
            given["Sec-WebSocket-Extensions"] = f"permessage-deflate; {deflate.offer()}"
        client.request("GET", target, given)
        self.answer: Answer = client.answer()
        if isinstance(client, H2Tunnel):
            assert self.answer.status == 200, self.answer
            assert self.answer.header("sec-websocket-accept") is None
        else:
            assert self.answer.status == 101, self.answer
            assert self.answer.header("sec-websocket-accept") == ACCEPTED
        self.extensions = self.answer.header("sec-websocket-extensions")
        self.subprotocol = self.answer.header("sec-websocket-protocol")
        if deflate is not None and self.extensions:
            deflate.finalize(self.extensions)
        self.ws = Connection(
            ConnectionType.CLIENT, [deflate] if deflate is not None and self.extensions else []
        )
        self._events: list[Any] = []
        self.partial: list[Any] = []

    def __enter__(self) -> WSClient:
        return self

    def __exit__(self, *exc: object) -> None:
        self.client.close()

    def raw(self, data: bytes) -> None:
        """Sends bytes as they are."""
        self.client.send(data)

    def send(self, message: str | bytes) -> None:
        """Sends a message by wsproto."""
        self.client.send(self.ws.send(Message(data=message)))

    def ping(self, payload: bytes = b"") -> None:
        self.client.send(self.ws.send(Ping(payload)))

    def close(self, code: int = 1000, reason: str = "") -> None:
        self.client.send(self.ws.send(CloseConnection(code, reason)))

    def event(self) -> Any:
        """The next event: a Ping, a Pong, a CloseConnection, the whole of a message; None at the end."""
        while True:
            while not self._events:
                data, self.client.buffer = self.client.buffer, b""
                data = data or self.client.sock.recv(65536)
                if not data:
                    return None
                self.ws.receive_data(data)
                self._events += self.ws.events()
            event = self._events.pop(0)
            if not isinstance(event, (TextMessage, BytesMessage)):
                return event
            self.partial.append(event.data)
            if event.message_finished:
                parts, self.partial = self.partial, []
                return parts[0][:0].join(parts)

    def receive(self) -> Any:
        """The next message; pings are answered and pongs left out; a CloseConnection at the end."""
        while True:
            event = self.event()
            if isinstance(event, Ping) and self.ws.state.name == "OPEN":
                self.client.send(self.ws.send(event.response()))
            elif not isinstance(event, (Ping, Pong)):
                return event

    def end(self) -> tuple[int, str]:
        """Waits for the close frame; code and reason. Answers it, and sees that the connection ends."""
        event = self.receive()
        while not isinstance(event, CloseConnection):
            assert event is not None, "the connection ended without a close frame"
            event = self.receive()
        if self.ws.state.name != "CLOSED":
            self.client.send(self.ws.send(event.response()))
        try:
            assert self.client.sock.recv(1) == b""
        except ConnectionResetError:
            pass
        return int(event.code), event.reason or ""


def open_ws(
    site: Site,
    target: str = "/",
    deflate: bool | PerMessageDeflate = False,
    wire: Wire | None = None,
    **fields: str,
) -> WSClient:
    """A WebSocket to a site, over a wire."""
    extension = PerMessageDeflate() if deflate is True else deflate or None
    client = wire.connect(site) if wire is not None else site.connect()
    return WSClient(H2Tunnel(client) if isinstance(client, H2Client) else client, target, extension, **fields)


def random_bytes(size: int) -> bytes:
    """Bytes that cannot be compressed."""
    return os.urandom(size)
