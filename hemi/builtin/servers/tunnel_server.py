"""The server `tunnel_server`: a forward proxy of HTTP/1, with CONNECT and with whole http URIs (RFC 9110 §9.3.6).

A connection carries one tunnel, or one exchange. Heads are parsed and rebuilt by `hemi.web.h1.proxyhead`, contents
have the framing that we give them.
"""

from __future__ import annotations

import math
from _socket import socket as RawSocket
from collections.abc import Callable, Iterator
from contextlib import suppress
from time import monotonic
from typing import TypeVar

import gevent

from hemi.builtin.servers.forwarding import ForwardConn, Forwarding, NotAllowed
from hemi.component import prop
from hemi.net.conn import TCPXConn
from hemi.sockets import DeadlinePassed
from hemi.upstream.dial import Dialed
from hemi.upstream.errors import DialFailed
from hemi.values import Size
from hemi.web.fields import check_value, quote_string
from hemi.web.h1.answer import BadAnswer, ChunkReader, Head
from hemi.web.h1.backend import Backend1Stream
from hemi.web.h1.framing import Refusal
from hemi.web.h1.proxyhead import ProxyHead, build_head, credentials_of, parse_proxy_head
from hemi.web.proxy.names import CONNECTION, FRAMING
from hemi.web.statuses import NO_CONTENT, REASONS

__all__ = ["TunnelServer"]

T = TypeVar("T")

PIECE = 65536
LINGER = 2.0
"""Seconds that a client has to read the last answer while it still sends."""

ESTABLISHED = b"HTTP/1.1 200 Connection Established\r\n\r\n"
OVERLOADED = (
    b"HTTP/1.1 503 Service Unavailable\r\ncontent-length: 0\r\nretry-after: 1\r\nconnection: close\r\n\r\n"
)


class TunnelServer(Forwarding, sign="tunnel_server"):
    """Forwards by HTTP/1.1 where clients ask it to: CONNECT, and requests for http URIs, as far as its rules allow.

    With `users` or a `users_file`, clients must authenticate by Basic. Give clients that are far away `tls: true`:
    their password is as good as readable otherwise.
    """

    realm: str = prop("proxy", "What the password is for: browsers show it.", inherit=False)
    via: str = prop("gorox", "How the field Via calls this proxy; none when empty.", inherit=False)
    max_head_size: Size = prop(
        "32K", "The largest head of a request; more is answered with 431.", least="1K", most="1M"
    )

    def check(self) -> Iterator[str | tuple[str, str]]:
        """Texts must be such as a field can carry."""
        yield from Forwarding.check(self)
        try:
            quote_string(self.realm)
        except ValueError as error:
            yield "realm", f"must be text that a field can carry: {error}"
        try:
            check_value(self.via)
        except ValueError as error:
            yield "via", f"must be a field value: {error}"

    def turn_away(self, sock: RawSocket) -> None:
        """Answers 503 without spending a greenlet; a client of TLS just sees the end."""
        if not self.tls:
            with suppress(OSError):
                sock.send(OVERLOADED)
                sock.recv(PIECE)  # unread, it would make close() send a reset, which destroys the answer
        sock.close()

    def serve(self, conn: TCPXConn) -> None:
        """Reads a request, and does what it wants."""
        assert isinstance(conn, ForwardConn)
        try:
            head, first = self._read_head(conn)
            conn.command, conn.host, conn.port = head.method, head.host, head.port
            self._authenticate(conn, head)
            node = self._reach(conn)
            if head.method == "CONNECT":
                conn.channel.send(ESTABLISHED)
                self.relay(conn, node, first)
            else:
                _Exchange(self, conn, node, head).run(first)
        except Refusal as refusal:
            self._refuse(conn, refusal)

    def _read_head(self, conn: ForwardConn) -> tuple[ProxyHead, bytes]:
        """The head of the request, and what came behind it. Raises Refusal, EOFError, OSError."""
        channel, data, at = conn.channel, b"", -1
        channel.deadline = monotonic() + self.request_timeout
        try:
            while at < 0:
                more = channel.recv(PIECE)
                if not more:
                    raise EOFError("the client left before it said what it wants")
                data = (data + more).lstrip(b"\r\n")  # empty lines may precede a request (RFC 9112 §2.2)
                at = data.find(b"\r\n\r\n", 0, self.max_head_size)
                if at < 0 and len(data) >= self.max_head_size:
                    raise Refusal(431, "The head of the request is too large.")
        except DeadlinePassed:
            if data:
                raise Refusal(408, "The request took too long to arrive.") from None
            raise
        channel.deadline = math.inf
        return parse_proxy_head(data[: at + 4]), data[at + 4 :]

    def _authenticate(self, conn: ForwardConn, head: ProxyHead) -> None:
        if not self.has_users:
            return
        given = credentials_of(head.table)
        if given is None:
            raise Refusal(407, "The proxy wants a user name and a password.")
        if not self.is_user(conn, *given):
            raise Refusal(conn.status, "User name or password are wrong.")

    def _reach(self, conn: ForwardConn) -> Dialed:
        try:
            return self.dial(conn)
        except NotAllowed as error:
            self.tell(conn, 403, str(error))
            raise Refusal(403, "The proxy does not go there.") from None
        except DialFailed as error:
            status = 503 if error.is_local else 504 if error.timed_out else 502
            self.tell(conn, status, f"{error.phase}: {error.reason}")
            raise Refusal(status, "The proxy cannot get there.") from None

    def _refuse(self, conn: ForwardConn, refusal: Refusal) -> None:
        if not conn.reason:
            self.tell(conn, refusal.status, refusal.text)
        extra = b""
        if refusal.status == 407:
            extra = b"proxy-authenticate: Basic realm=%b\r\n" % quote_string(self.realm).encode()
        text = b"" if conn.command == "HEAD" else f"{refusal.text}\n".encode()
        with suppress(OSError):
            conn.channel.late = False  # it was only its deadline that passed
            conn.channel.send(
                b"HTTP/1.1 %d %b\r\ncontent-type: text/plain\r\ncontent-length: %d\r\n%bconnection: close\r\n\r\n%b"
                % (refusal.status, REASONS[refusal.status].encode(), len(text), extra, text)
            )
            conn.channel.linger(LINGER)


class _Failed(Exception):
    """An exchange that cannot go on: the status for the client, and the reason for the log."""

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status = status


class _Exchange:
    """A request for an http URI: passed on, and its response back, both with a framing of ours."""

    def __init__(self, server: TunnelServer, conn: ForwardConn, node: Dialed, head: ProxyHead) -> None:
        self.server = server
        self.conn = conn
        self.node = node
        self.head = head
        self.until = monotonic() + server.max_lifetime
        self.stream = Backend1Stream(node, head.method, {})
        self.stream.chunked = head.size < 0
        self.begun = False
        """The head of the response went to the client."""
        self.fault = ""
        """What is wrong with the content of the request."""

    def run(self, first: bytes) -> None:
        """Passes the request on and the response back. Raises Refusal as long as that can be told to the client."""
        upload = gevent.spawn(self._upload, first)
        whole = False
        try:
            self._respond(self._await_head())
            whole = True
        except _Failed as failed:
            self.server.tell(self.conn, failed.status, str(failed))
            if not self.begun:
                raise Refusal(
                    failed.status, "The exchange with the server behind the proxy failed."
                ) from None
        finally:
            upload.kill()
            if not self.stream.sent:
                self.node.reset()  # nobody must take what was cut for a whole request
            if self.begun and not whole:
                self.conn.channel.reset()
        if whole and not self.stream.sent:
            self.conn.channel.linger(LINGER)

    def _from_node(self, read: Callable[[], T]) -> T:
        """What is read of the server behind. Raises _Failed."""
        self.node.deadline = min(monotonic() + self.server.idle_timeout, self.until)
        try:
            return read()
        except (BadAnswer, OSError) as error:
            if self.fault:
                raise _Failed(400, f"the request: {self.fault}") from None
            if isinstance(error, DeadlinePassed):
                raise _Failed(504, "no answer in time") from None
            raise _Failed(502, f"the answer: {error}") from None

    # The request

    def _upload(self, first: bytes) -> None:
        """Sends the request, in a greenlet of its own: the server may answer before it has taken all of it."""
        stream = self.stream
        try:
            stream.channel.send(build_head(self.head, self.server.via.encode()))
            for piece in self._content(first):
                stream.send_data(piece)
                self.conn.bytes_received += len(piece)
            stream.finish()
        except _Failed as failed:
            self.fault = str(failed)
            self.node.cut(monotonic())  # wakes who waits for the response
        except OSError:
            return  # the response, if there is one, tells more

    def _content(self, data: bytes) -> Iterator[bytes]:
        """The pieces of the request's content, `data` first. Raises _Failed."""
        size = self.head.size
        reader = ChunkReader() if size < 0 else None
        while size:
            data = data or self._from_client(PIECE if size < 0 else min(PIECE, size))
            if reader is None:
                piece = data[:size]
                size -= len(piece)
            else:
                try:
                    piece = reader.feed(data)
                except BadAnswer as error:
                    raise _Failed(400, str(error)) from None
                size = 0 if reader.complete else -1
            data = b""
            if piece:
                yield piece

    def _from_client(self, size: int) -> bytes:
        channel = self.conn.channel
        channel.deadline = min(monotonic() + self.server.idle_timeout, self.until)
        try:
            data = channel.recv(size)
        except OSError as error:
            raise _Failed(400, str(error)) from None
        if not data:
            raise _Failed(400, "its content ends early")
        channel.deadline = math.inf
        return data

    # The response

    def _await_head(self) -> Head:
        """The head of the final response; interim ones go to the client."""
        while True:
            head = self._from_node(self.stream.read_head)
            if head.status == 101:
                raise _Failed(502, "it changes the protocol, which nobody asked for")
            if head.status >= 200:
                return head
            if self.head.version >= 11:
                self.conn.channel.send(self._build(head, b""))

    def _respond(self, head: Head) -> None:
        """Passes the response on."""
        conn, stream = self.conn, self.stream
        bare = head.status in NO_CONTENT or self.head.method == "HEAD"
        chunked = not bare and head.size < 0 and self.head.version >= 11
        framing = b""
        if chunked:
            framing = b"transfer-encoding: chunked\r\n"
        elif head.size >= 0 and (not bare or head.get(b"content-length") is not None) and head.status != 204:
            framing = b"content-length: %d\r\n" % head.size
        conn.status = head.status
        self.begun = True
        conn.channel.send(self._build(head, framing + b"connection: close\r\n"))
        while True:
            data = self._from_node(stream.read)
            if not data:
                break
            conn.channel.send(b"%x\r\n%b\r\n" % (len(data), data) if chunked else data)
            conn.bytes_sent += len(data)
        if chunked:
            conn.channel.send(b"0\r\n\r\n")

    def _build(self, head: Head, more: bytes) -> bytes:
        """A head for the client; `more` are the lines of its framing."""
        dropped = CONNECTION | FRAMING | head.options
        lines = [b"%b: %b\r\n" % field for field in head.fields if field[0] not in dropped]
        if self.server.via:
            lines.append(b"via: 1.1 %b\r\n" % self.server.via.encode())
        reason = REASONS.get(head.status, "").encode()
        return b"HTTP/1.1 %d %b\r\n%b%b\r\n" % (head.status, reason, b"".join(lines), more)
