"""WebSockets for WSGI apps, in the ways in which their libraries look for them.

The environ of a handshake offers two, and the app takes one of them, or answers as any request:
- `wsgi.websocket` is an object with gevent-websocket's interface. The handshake is answered when it is first used.
- `werkzeug.socket` is a socket, on which libraries such as simple-websocket (flask-sock, python-socketio) answer the
  handshake themselves. It is one end of a pair: what the app writes as HTTP/1.1 is translated for the client's version,
  and TLS and HTTP/2 are none of its business.
"""

from __future__ import annotations

import base64
import math
import os
import sys
from _socket import MSG_DONTWAIT, MSG_PEEK
from _socket import socket as RawSocket
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import gevent
from gevent import socket
from gevent.event import Event
from greenlet import GreenletExit

from hemi.sockets import Channel
from hemi.web.errors import HTTPError
from hemi.web.fields import check_name, check_value
from hemi.web.proxy.wstunnel import WebSocketTunnel
from hemi.web.websocket.connection import WebSocket, WebSocketClosed
from hemi.web.websocket.handshake import check, may_open
from hemi.web.websocket.keeper import keeper_of
from hemi.web.websocket.serving import accept, finish

if TYPE_CHECKING:
    from hemi.web.request import Request
    from hemi.web.response import Response
    from hemi.web.websocket.terms import WebSocketTerms

__all__ = ["Offer"]

MAX_HEAD = 65536
_CONNECTION = frozenset({b"connection", b"upgrade", b"content-length", b"transfer-encoding"})


class Offer:
    """What the environ of a handshake offers to the app. `is_taken` says that the exchange is a WebSocket now."""

    def __init__(self, req: Request, resp: Response, terms: WebSocketTerms, environ: dict[str, Any]) -> None:
        """Raises HTTPError for a handshake that is none, or of a page that may not make it."""
        check(req)
        if not may_open(req, terms.origins):
            raise HTTPError(403, "Pages of other sites may not open WebSockets here (origins).")
        self.req = req
        self.resp = resp
        self.terms = terms
        self.polite = PoliteWebSocket(self, environ)
        self.bridge = Bridge(self)
        environ["wsgi.websocket"] = self.polite
        environ["wsgi.websocket_version"] = "13"
        environ["werkzeug.socket"] = self.bridge.end
        if req.version != 11:  # over HTTP/2 these are not there, and libraries want them
            environ["HTTP_CONNECTION"], environ["HTTP_UPGRADE"] = "Upgrade", "websocket"
            environ["HTTP_SEC_WEBSOCKET_KEY"] = base64.b64encode(os.urandom(16)).decode()

    @property
    def is_taken(self) -> bool:
        """Whether the app has made a WebSocket of it, in one way or the other."""
        return self.polite.ws is not None or self.bridge.is_used()

    def end(self) -> None:
        """Ends the WebSocket behind the app."""
        try:
            if self.is_taken:
                self.resp.status = 101  # whatever the app has told start_response
            self.bridge.finish()
        finally:
            if self.polite.ws is not None:
                finish(self.polite.ws)

    def cut(self) -> None:
        """Ends it at once."""
        self.bridge.close()
        if self.polite.ws is not None:
            finish(self.polite.ws, 0)
            self.polite.ws = None

    def run(self, call: Callable[[], None]) -> None:
        """Calls the app; what it answers once the WebSocket was taken is for nobody, and how it ends is a matter of
        its library: StopIteration and ConnectionError mean "nothing to send"."""
        try:
            call()
        except (StopIteration, OSError):
            if not self.is_taken:
                raise
        except GreenletExit:
            self.cut()  # the drain is over: nothing waits any more
            raise
        finally:
            self.end()


class PoliteWebSocket:
    """gevent-websocket's interface: see its class WebSocket."""

    def __init__(self, offer: Offer, environ: dict[str, Any]) -> None:
        self._offer = offer
        self.environ = environ
        self.ws: WebSocket | None = None
        self.version = "13"
        self.path: str = environ.get("PATH_INFO", "")
        self.origin: str | None = environ.get("HTTP_ORIGIN")
        self.protocol: str | None = environ.get("HTTP_SEC_WEBSOCKET_PROTOCOL")

    def __repr__(self) -> str:
        return f"<PoliteWebSocket {self.ws!r}>"

    @property
    def closed(self) -> bool:
        """Whether it has ended."""
        return self.ws is not None and self.ws.closed

    def _open(self) -> WebSocket:
        if self.ws is None:
            offer = self._offer
            offer.bridge.close()
            self.ws = accept(offer.req, offer.resp, offer.terms)
        return self.ws

    def receive(self) -> str | bytearray | None:
        """The next message; None when it has ended. Raises WebSocketError when it had ended before."""
        ws = self._open()
        if ws.closed:
            raise _dead("Connection is already closed")
        message = ws.receive()
        return bytearray(message) if isinstance(message, bytes) else message

    read_message = receive

    def send(self, message: Any, binary: bool | None = None) -> None:
        """Sends a message: as text if it is str, unless `binary` says otherwise. Raises WebSocketError at the end."""
        data = message
        if binary is None:
            binary = not isinstance(message, str)
        if binary and isinstance(data, str):
            data = data.encode()
        elif not binary:
            data = str(data, "utf-8") if isinstance(data, (bytes, bytearray)) else str(data or "")
        try:
            self._open().send(data)
        except WebSocketClosed as error:
            raise _dead("Socket is dead") from error

    def send_frame(self, message: Any, opcode: int) -> None:
        """Sends a text (1) or binary message, a close (8), a ping (9). Raises WebSocketError at the end."""
        if opcode == 8:
            self.close()
        elif opcode == 9:
            self._open().ping(message.encode() if isinstance(message, str) else bytes(message))
        else:
            self.send(message, binary=opcode != 1)

    def close(self, code: int = 1000, message: str | bytes = b"") -> None:
        """Ends it."""
        reason = message.decode("utf-8", "replace") if isinstance(message, bytes) else message or ""
        self._open().close(code, reason)


def _dead(text: str) -> OSError:
    """The error of gevent-websocket, where the app has it, as that is what it expects."""
    module = sys.modules.get("geventwebsocket.exceptions")
    kind: type[OSError] = getattr(module, "WebSocketError", ConnectionError)
    return kind(text)


class Bridge:
    """A pair of sockets between an app that speaks WebSocket itself, and the client.

    For the keeper it is a WebSocket that can only be cut: nobody knows here where a frame ends.
    """

    def __init__(self, offer: Offer) -> None:
        self._offer = offer
        self.end, ours = socket.socketpair()
        sock = RawSocket(fileno=ours.detach())
        sock.setblocking(False)
        self._channel = Channel(sock)
        self._answered = Event()
        self._used = False
        self._status = 0
        self.closed = False
        self._greenlet = gevent.spawn(self._run)

    def __repr__(self) -> str:
        return f"<Bridge {'closed' if self.closed else 'used' if self._used else 'unused'}>"

    def is_used(self) -> bool:
        """Whether the app has written to the socket. Waits until its answer to the handshake has gone on."""
        if not self._used and not self.closed:
            try:
                self._used = bool(self._channel.sock.recv(1, MSG_PEEK | MSG_DONTWAIT))
            except OSError:
                return False
        if self._used:
            self._answered.wait(self._offer.terms.close_timeout)
        return self._used

    def _run(self) -> None:
        try:
            head, rest = self._read_head()
            if not head:
                return
            status, fields = _parse(head)
            self._status = status
            if status == 101:
                self._carry(fields, rest)
        finally:
            self._answered.set()
            self._channel.close()

    def _read_head(self) -> tuple[bytes, bytes]:
        data = b""
        with suppress(OSError):
            while b"\r\n\r\n" not in data and len(data) < MAX_HEAD:
                piece = self._channel.recv(MAX_HEAD)
                if not piece:
                    break
                self._used = True
                data += piece
        head, end, rest = data.partition(b"\r\n\r\n")
        return (head, rest) if end else (b"", b"")

    def _carry(self, fields: list[tuple[bytes, bytes]], rest: bytes) -> None:
        req, resp, terms = self._offer.req, self._offer.resp, self._offer.terms
        resp.reset()
        resp.status = 101
        dropped = _CONNECTION if req.version == 11 else _CONNECTION | {b"sec-websocket-accept"}
        resp.fields = [field for field in fields if field[0] not in dropped]
        client, early = req.stream.take_over(resp, b"websocket")
        self._answered.set()
        idle = terms.idle_timeout or math.inf
        tunnel = WebSocketTunnel(client, self._channel, idle, keeper_of(terms.stage))
        try:
            tunnel.run(early, rest)
        finally:
            resp.bytes_sent += tunnel.sent
            req.received += tunnel.received

    def close(self) -> None:
        """Closes both ends. Idempotent."""
        self.closed = True
        self._greenlet.kill()
        self._channel.close()
        self.end.close()

    def finish(self) -> None:
        """Lets what the app has left to its threads come to its end, for a while. Raises HTTPError when the app has
        refused the handshake on the socket."""
        try:
            if self._used and not self.closed:
                self._greenlet.join(self._offer.terms.close_timeout)
        finally:
            self.close()
        if self._used and self._status != 101 and not self._offer.resp.is_sent:
            raise HTTPError(self._status if 400 <= self._status <= 599 else 500)


def _parse(head: bytes) -> tuple[int, list[tuple[bytes, bytes]]]:
    """Status and fields of an app's answer; status 0 when it is none that can be passed on."""
    line, *lines = head.split(b"\r\n")
    version, _, status = line.partition(b" ")
    if version != b"HTTP/1.1" or not status[:3].isdigit():
        return 0, []
    fields = []
    for one in lines:
        name, _, value = one.partition(b":")
        try:
            fields.append((check_name(name).lower(), check_value(value)))
        except ValueError:
            return 0, []
    return int(status[:3]), fields
