"""A node that speaks HTTP/2 by the `h2` package, strictly: what comes against the rules ends the connection, and is
kept in `broken`.

    with Node2(app) as node: ...         # app(exchange) runs in a greenlet for each request

`raw` may be a function that is given each new connection's socket, instead of all the rest.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import gevent
from gevent.event import Event
from gevent.queue import Queue
from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.errors import ErrorCodes
from h2.events import (
    ConnectionTerminated,
    DataReceived,
    RequestReceived,
    StreamEnded,
    StreamReset,
    TrailersReceived,
    WindowUpdated,
)
from h2.exceptions import H2Error
from h2.settings import SettingCodes, Settings

from tests.peer import Peer
from tests.waiting import until

Fields = list[tuple[str, str]]


class Gone(Exception):
    """The client reset the stream, or closed the connection."""


class Exchange:
    """A request, and the way to answer it."""

    def __init__(self, conn: Conn, number: int, fields: Fields) -> None:
        self.conn = conn
        self.number = number
        self.fields = fields
        self.trailers: Fields = []
        self.reset_code: int | None = None
        self.is_reset = Event()
        self.pieces: Queue[bytes | None] = Queue()

    def __getitem__(self, name: str) -> str:
        values = [value for key, value in self.fields if key == name]
        assert len(values) == 1, f"{name}: {values} in {self.fields}"
        return values[0]

    def get(self, name: str) -> str | None:
        return next((value for key, value in self.fields if key == name), None)

    def read(self) -> bytes:
        """The next piece of the content, b"" at its end."""
        piece = self.pieces.get(timeout=10)
        if piece is None:
            self.pieces.put(None)
            if self.reset_code is not None:
                raise Gone(str(self.reset_code))
            return b""
        self.conn.acknowledge(len(piece), self.number)
        return piece

    def queue(self) -> Iterator[bytes]:
        """What comes of the content, to its end, without opening windows."""
        while (piece := self.pieces.get(timeout=10)) is not None:
            yield piece

    def content(self) -> bytes:
        return b"".join(iter(self.read, b""))

    def begin(self, status: int = 200, fields: Fields | None = None, end: bool = False) -> None:
        """Sends a head, also an interim one."""
        self.conn.do(
            lambda h2: h2.send_headers(self.number, [(":status", str(status)), *(fields or [])], end)
        )

    def send(self, data: bytes, end: bool = False) -> None:
        """Sends content, as the windows allow."""
        while data or end:
            if self.reset_code is not None:
                raise Gone(str(self.reset_code))
            h2 = self.conn.h2
            room = min(h2.local_flow_control_window(self.number), h2.max_outbound_frame_size)
            piece, data = data[:room], data[room:]
            if not piece and data:
                self.conn.moved.clear()
                self.conn.moved.wait(10)
                continue
            last = end and not data
            self.conn.do(lambda h2, piece=piece, last=last: h2.send_data(self.number, piece, last))
            if last:
                return

    def end(self, trailers: Fields | None = None) -> None:
        """Ends the response."""
        if trailers:
            self.conn.do(lambda h2: h2.send_headers(self.number, trailers, True))
        else:
            self.conn.do(lambda h2: h2.end_stream(self.number))

    def answer(self, content: bytes = b"", status: int = 200, fields: Fields | None = None) -> None:
        """A whole response."""
        self.begin(status, [*(fields or []), ("content-length", str(len(content)))], not content)
        if content:
            self.send(content, True)

    def reset(self, code: int = ErrorCodes.INTERNAL_ERROR) -> None:
        self.conn.do(lambda h2: h2.reset_stream(self.number, code))


class Conn:
    """A connection of a client."""

    def __init__(self, node: Node2, sock: Any) -> None:
        self.node = node
        self.sock = sock
        self.exchanges: dict[int, Exchange] = {}
        self.moved = Event()
        self.goodbye: Any = None
        config = H2Configuration(client_side=False, header_encoding="utf-8", **node.config)
        self.h2 = H2Connection(config)

    def do(self, action: Callable[[H2Connection], Any]) -> None:
        """Does something, and sends what comes of it."""
        action(self.h2)
        self.flush()

    def flush(self) -> None:
        data = self.h2.data_to_send()
        if data:
            self.sock.sendall(data)

    def acknowledge(self, size: int, number: int) -> None:
        if self.node.generous:
            try:
                self.do(lambda h2: h2.acknowledge_received_data(size, number))
            except (H2Error, OSError):
                pass  # the stream is over

    def go_away(self, last: int, code: int = 0) -> None:
        """Says which is the last request that is answered; those go on."""
        self.flush()
        self.sock.sendall(b"\0\0\x08\x07\0\0\0\0\0" + last.to_bytes(4, "big") + code.to_bytes(4, "big"))

    def run(self) -> None:
        self.h2.local_settings = Settings(client=False, initial_values=self.node.settings)
        self.h2.initiate_connection()
        self.flush()
        try:
            while data := self.sock.recv(65536):
                for event in self.h2.receive_data(data):
                    self._take(event)
                self.flush()
        except H2Error as error:
            self.node.broken.append(error)
            try:
                self.flush()
            except OSError:
                pass
        except OSError:
            pass
        finally:
            for exchange in self.exchanges.values():
                if exchange.reset_code is None:
                    exchange.reset_code = -1
                exchange.is_reset.set()
                exchange.pieces.put(None)
            self.moved.set()

    def _take(self, event: Any) -> None:
        number = getattr(event, "stream_id", 0)
        exchange = self.exchanges.get(number)
        if isinstance(event, RequestReceived):
            exchange = self.exchanges[number] = Exchange(self, number, event.headers)
            self.node.exchanges.append(exchange)
            gevent.spawn(self._serve, exchange)
        elif isinstance(event, ConnectionTerminated):
            self.goodbye = event
        elif isinstance(event, WindowUpdated):
            self.moved.set()
        elif exchange is None:
            return
        elif isinstance(event, DataReceived):
            if event.data:
                exchange.pieces.put(event.data)
        elif isinstance(event, TrailersReceived):
            exchange.trailers = event.headers
        elif isinstance(event, StreamEnded):
            exchange.pieces.put(None)
        elif isinstance(event, StreamReset):
            exchange.reset_code = int(event.error_code)
            exchange.is_reset.set()
            exchange.pieces.put(None)
            self.moved.set()

    def _serve(self, exchange: Exchange) -> None:
        try:
            self.node.app(exchange)
        except (Gone, OSError, H2Error):
            pass


class Node2(Peer):
    """Listens. `generous` says that it opens its windows for what has been read."""

    def __init__(
        self,
        app: Callable[[Exchange], Any] | None = None,
        *,
        context: Any = None,
        settings: dict[SettingCodes, int] | None = None,
        generous: bool = True,
        raw: Callable[[Any], Any] | None = None,
        **config: Any,
    ) -> None:
        self.app = app or hello
        self.settings = settings or {}
        self.generous = generous
        self.config = config
        self.conns: list[Conn] = []
        self.exchanges: list[Exchange] = []
        self.broken: list[H2Error] = []
        super().__init__(raw or self._talk, context)

    def _talk(self, sock: Any) -> None:
        conn = Conn(self, sock)
        self.conns.append(conn)
        conn.run()

    def stop(self) -> None:
        """Listens no more, ends the connections, and waits until they have ended."""
        super().stop()
        until(lambda: not self.open)

    def __enter__(self) -> Node2:
        return self

    def __exit__(self, *details: object) -> None:
        self.stop()


def hello(exchange: Exchange) -> None:
    """The least of apps."""
    exchange.content()
    exchange.answer(b"hello", fields=[("content-type", "text/plain")])


def echo(exchange: Exchange) -> None:
    """Sends back what comes while it comes, trailers too."""
    exchange.begin(200, [("x-method", exchange[":method"])])
    while data := exchange.read():
        exchange.send(data)
    exchange.end(exchange.trailers)
