"""A strict HTTP/2 client on the foreign `h2` package, with the verbs of `tests.webkit.Client` that are not HTTP/1's.

Answers are given in the order of their requests, however they came. Whatever the server does against the protocol is an
AssertionError here. Several greenlets may use a client: one of them reads at a time, for all.
"""

from __future__ import annotations

import errno
from collections.abc import Iterable
from typing import Any

import h2.config
import h2.connection
import h2.errors
import h2.events
import h2.exceptions
import h2.settings
from gevent import ssl
from gevent.event import Event

from tests.webkit import Answer, Closing, Malformed


class H2Answer(Answer):
    """A response. `goaway` says that the server had told that it is leaving when the answer was complete."""

    goaway = False
    reset: int | None = None

    @property
    def closes(self) -> bool:
        """The server said that the connection ends."""
        assert self.header("connection") is None
        return self.goaway


class Exchange:
    """What has come of one stream."""

    def __init__(self, sid: int) -> None:
        self.sid = sid
        self.status = 0
        self.fields: list[tuple[str, str]] = []
        self.trailers: list[tuple[str, str]] = []
        self.informational: list[tuple[int, list[tuple[str, str]]]] = []
        self.pieces: list[bytes] = []
        self.ended = False
        self.reset: int | None = None

    @property
    def size(self) -> int:
        return sum(map(len, self.pieces))


class H2Client(Closing):
    """One connection. `auto_window` has the client open windows for what it has read."""

    def __init__(self, sock: Any, settings: dict[int, int] | None = None, auto_window: bool = True) -> None:
        self.sock = sock
        self.auto_window = auto_window
        self.conn = h2.connection.H2Connection(
            h2.config.H2Configuration(client_side=True, header_encoding="latin-1")
        )
        if settings:
            self.conn.local_settings = h2.settings.Settings(client=True, initial_values=settings)
        self.exchanges: dict[int, Exchange] = {}
        self.order: list[Exchange] = []
        self.goaway: int | None = None
        self.goaways: list[tuple[int, int]] = []
        self.acked = False
        self.pinged = False
        self.ended = False
        self._buffer = b""
        self._reading = False
        self._progress = Event()
        self.conn.initiate_connection()
        self._flush()

    def _flush(self) -> None:
        data = self.conn.data_to_send()
        if data:
            self.sock.sendall(data)

    # Requests

    def request(
        self,
        method: str = "GET",
        target: str = "/",
        fields: dict[str, str] | Iterable[tuple[str, str]] = (),
        content: bytes | list[bytes] | None = None,
        trailers: Iterable[tuple[str, str]] = (),
        host: str | None = "a.example",
    ) -> Exchange:
        """Sends a request; a list is sent as frames, without a content-length."""
        exchange = self.begin(method, target, fields, content, host)
        if content is None:
            return exchange
        pieces = [content] if isinstance(content, bytes) else content
        behind = [(name.lower(), value) for name, value in trailers]
        for piece in pieces:
            self.send_data(exchange, piece)
        if behind:
            self.conn.send_headers(exchange.sid, behind, end_stream=True)
        elif not exchange.ended or exchange.reset is None:
            self._end(exchange)
        self._flush()
        return exchange

    def begin(
        self,
        method: str = "GET",
        target: str = "/",
        fields: dict[str, str] | Iterable[tuple[str, str]] = (),
        content: Any = None,
        host: str | None = "a.example",
        open_: bool = False,
    ) -> Exchange:
        """Sends the head of a request; `open_` leaves the stream open for content that is sent by `send_data`."""
        scheme = "https" if isinstance(self.sock, ssl.SSLSocket) else "http"
        head = [(":method", method), (":scheme", scheme), (":path", target)]
        if host is not None:
            head.append((":authority", host))
        pairs = fields.items() if isinstance(fields, dict) else fields
        head += [(name.lower(), value) for name, value in pairs]
        if isinstance(content, bytes):
            head.append(("content-length", str(len(content))))
        sid = self.conn.get_next_available_stream_id()
        self.conn.send_headers(sid, head, end_stream=content is None and not open_)
        exchange = self.exchanges[sid] = Exchange(sid)
        self.order.append(exchange)
        self._flush()
        return exchange

    def send_data(self, exchange: Exchange, data: bytes, last: bool = False) -> None:
        """Sends content, as the windows allow."""
        view = memoryview(data)
        while view and exchange.reset is None:
            try:
                room = min(
                    self.conn.local_flow_control_window(exchange.sid),
                    self.conn.max_outbound_frame_size,
                    len(view),
                )
            except h2.exceptions.StreamClosedError:
                return
            if room <= 0:
                self.more()
                continue
            self.conn.send_data(exchange.sid, bytes(view[:room]))
            view = view[room:]
            self._flush()
        if last:
            self._end(exchange)
            self._flush()

    def _end(self, exchange: Exchange) -> None:
        if exchange.reset is None:
            try:
                self.conn.end_stream(exchange.sid)
            except h2.exceptions.StreamClosedError:
                pass

    # What comes

    def more(self) -> None:
        """Reads once, or waits until another greenlet has."""
        if self._reading:
            self._progress.wait(10)
            return
        if self.ended:
            raise Malformed("the connection has ended")
        self._reading = True
        self._progress.clear()
        try:
            data = self.sock.recv(65536)
            if not data:
                self.ended = True
                return
            self._buffer += data
            while frame := self._next_frame():
                try:
                    events = self.conn.receive_data(frame)
                except h2.exceptions.ProtocolError as error:
                    raise Malformed(f"the server breaks the protocol: {error!r}") from error
                for event in events:
                    self._take(event)
            self._flush_quietly()
        finally:
            self._reading = False
            self._progress.set()

    def _next_frame(self) -> bytes:
        """The next whole frame. One by one, as for this package nothing may follow a GOAWAY: see `_take`."""
        size = 9 + int.from_bytes(self._buffer[:3], "big")
        if len(self._buffer) < max(size, 9):
            return b""
        frame, self._buffer = self._buffer[:size], self._buffer[size:]
        return frame

    def _flush_quietly(self) -> None:
        try:
            self._flush()
        except OSError as error:
            if error.errno not in (errno.ECONNRESET, errno.EPIPE):
                raise

    def _take(self, event: h2.events.Event) -> None:
        exchange = self.exchanges.get(getattr(event, "stream_id", None) or 0)
        if isinstance(event, h2.events.InformationalResponseReceived):
            assert exchange is not None
            status, fields = self._split(event.headers)
            exchange.informational.append((status, fields))
        elif isinstance(event, h2.events.ResponseReceived):
            assert exchange is not None
            exchange.status, exchange.fields = self._split(event.headers)
        elif isinstance(event, h2.events.TrailersReceived):
            assert exchange is not None
            exchange.trailers = [(_text(name), _text(value)) for name, value in event.headers]
        elif isinstance(event, h2.events.DataReceived):
            assert exchange is not None
            exchange.pieces.append(event.data)
            if self.auto_window:
                self.conn.acknowledge_received_data(event.flow_controlled_length, exchange.sid)
        elif isinstance(event, h2.events.StreamEnded):
            assert exchange is not None
            exchange.ended = True
        elif isinstance(event, h2.events.StreamReset):
            assert exchange is not None
            exchange.reset = int(event.error_code)
        elif isinstance(event, h2.events.ConnectionTerminated):
            self.goaway = int(event.error_code)
            self.goaways.append((int(event.error_code), event.last_stream_id or 0))
            # What was begun goes on (RFC 9113 §6.8).
            self.conn.state_machine.state = h2.connection.ConnectionState.CLIENT_OPEN
        elif isinstance(event, h2.events.SettingsAcknowledged):
            self.acked = True
        elif isinstance(event, h2.events.PingAckReceived):
            self.pinged = True

    def _split(self, headers: Any) -> tuple[int, list[tuple[str, str]]]:
        pairs = [(_text(name), _text(value)) for name, value in headers]
        assert pairs[0][0] == ":status"
        for name, _ in pairs:
            assert name == name.lower()
            assert name not in (
                "connection",
                "keep-alive",
                "transfer-encoding",
                "upgrade",
                "proxy-connection",
            )
        return int(pairs[0][1]), pairs[1:]

    def settle(self) -> None:
        """Waits until the server has acknowledged our settings, and we have seen its."""
        while not self.acked:
            self.more()

    def wait(self, exchange: Exchange) -> None:
        """Waits for the end of an exchange."""
        while not exchange.ended and exchange.reset is None:
            if self.ended:
                raise Malformed(f"the connection ended in the middle of stream {exchange.sid}")
            self.more()

    def answer(self, method: str = "GET", exchange: Exchange | None = None) -> H2Answer:
        """The response to the oldest request that was not asked for yet, or to this one."""
        if exchange is None:
            exchange = self.order.pop(0)
        elif exchange in self.order:
            self.order.remove(exchange)
        self.wait(exchange)
        if not exchange.ended:
            raise Malformed(f"stream {exchange.sid} was reset: {exchange.reset}")
        content = b"".join(exchange.pieces)
        answer = H2Answer(
            "2", exchange.status, exchange.fields, content, exchange.trailers, exchange.informational
        )
        answer.goaway = self.goaway is not None
        answer.reset = exchange.reset
        length = answer.header("content-length")
        if length is not None and method != "HEAD" and answer.status != 304:
            assert int(length) == len(content)
        if method == "HEAD" or answer.status in (204, 304):
            assert not content
        return answer

    def rest(self) -> bytes:
        """What comes on streams until the server closes. Raises ConnectionResetError when it resets."""
        before = sum(exchange.size for exchange in self.exchanges.values())
        while not self.ended:
            self.more()
        pieces = b"".join(piece for exchange in self.exchanges.values() for piece in exchange.pieces)
        return pieces[before:]

    def reset(self, exchange: Exchange, code: int = 8) -> None:
        """Resets a stream."""
        self.conn.reset_stream(exchange.sid, code)
        self._flush()

    def ping(self) -> None:
        """A round trip: the server has taken what was sent before."""
        self.pinged = False
        self.conn.ping(b"12345678")
        self._flush()
        while not self.pinged:
            self.more()


def _text(data: Any) -> str:
    return data if isinstance(data, str) else bytes(data).decode("latin-1")
