"""A server's HTTP/1 connection: requests are parsed as their bytes come, and served one after another.

One greenlet runs `serve` for the connection's life. The parser (llhttp through httptools) calls back while it is fed;
the callbacks only note what they find, and complete heads queue up, so pipelining costs nothing.
"""

from __future__ import annotations

import math
from collections import deque
from time import monotonic
from typing import TYPE_CHECKING, Any

from httptools import HttpParserError, HttpParserInvalidMethodError, HttpParserUpgrade, HttpRequestParser

from hemi.sockets import DeadlinePassed, Peer
from hemi.web import exchange
from hemi.web.h1.content import Content1
from hemi.web.h1.framing import (
    Refusal,
    check_request_line,
    content_size,
    head_size,
    is_unknown_method,
    merge_fields,
    refusal_of_start,
    split_options,
)
from hemi.web.h1.known import METHOD_NAMES, learn_head, learn_line
from hemi.web.h1.stream import DROP_MOST, Server1Stream
from hemi.web.h2.frames import PREFACE
from hemi.web.request import Request
from hemi.web.uri import BadTarget, normalise_path, split_authority, split_target

if TYPE_CHECKING:
    from hemi.sockets import Channel
    from hemi.web.gate import Gate
    from hemi.web.server import HTTPXServer

RECV_HEAD = 16384
"""Bytes read at once while a head is expected; it bounds how many pipelined requests are parsed ahead."""

LINGER = 2.0
"""Seconds that a closing connection goes on reading, so that the client can take the last answer."""

FAREWELL = 1.0
"""Seconds that an idle connection of a closing gate has for a request that is on its way: it is answered, with
"connection: close". Cutting at once would lose the requests that cross the end of the connection (RFC 9112 §9.6)."""

_VERSIONS = {"1.1": 11, "1.0": 10}


class Server1Conn:
    """One connection. `served` counts its requests; `until` is when it should end (monotonic seconds)."""

    __slots__ = (
        "_arrived",
        "_begun",
        "_failure",
        "_fields",
        "_held",
        "_last",
        "_parser",
        "_parsing",
        "_priming",
        "_queue",
        "_target",
        "_upgrading",
        "_whole",
        "_window",
        "broken",
        "channel",
        "gate",
        "greenlet",
        "idle",
        "no_deadline",
        "peer",
        "preface",
        "scheme",
        "served",
        "server",
        "tls",
        "trusted",
        "until",
    )

    def __init__(self, gate: Gate, channel: Channel, peer: Peer) -> None:
        self.gate: Gate = gate
        self.server: HTTPXServer = gate.server
        self.channel = channel
        self.peer = peer
        self.tls = channel.tls
        self.scheme: str = self.server.forced_scheme or ("https" if channel.tls is not None else "http")
        self.trusted = False
        """The peer is a proxy whose word about its clients counts."""
        self.greenlet: Any = None
        self.broken = False
        """Nothing more can be said on this connection."""
        self.idle = False
        """It waits for the first byte of a request."""
        self.served = 0
        self.until = monotonic() + self.server.keepalive_age
        self.no_deadline = math.inf
        self.preface = b""
        """What has come, when it is HTTP/2: the connection is another class's then."""
        self._queue: deque[Server1Stream] = deque()
        self._parser: Any = HttpRequestParser(self)
        self._parsing: Server1Stream | None = None
        self._target = b""
        self._fields: list[tuple[bytes, bytes]] = []
        self._last = b""
        """What has come of a head that is not complete yet."""
        self._held = b""
        """What came behind a request with Upgrade: of another protocol, if the upgrade comes about."""
        self._begun = False
        self._arrived = 0
        self._window = b""
        self._whole = False
        """What is being parsed began with the head that has begun, but for empty lines."""
        self._priming = False
        self._upgrading = False
        self._failure: Refusal | None = None

    def __repr__(self) -> str:
        return f"<Server1Conn {self.peer.host}:{self.peer.port} {'idle' if self.idle else 'busy'} served={self.served}>"

    # Serving

    def serve(self) -> None:
        """Serves requests until one side ends the connection."""
        queue = self._queue
        channel = self.channel
        patience = self.server.head_timeout if not self.gate.closing else FAREWELL
        while True:
            while not queue:
                if self._failure is not None:
                    if not self.preface:
                        self._refuse(self._failure)
                    return
                if not self._receive(patience):
                    return
            stream = queue.popleft()
            self.served += 1
            self.server.requests += 1
            exchange.run(stream, self.server)
            content = stream.content
            # `stream.end`, written out: left as they are, the circles would make each exchange work for the collector.
            stream.conn = stream.request = stream.response = None  # type: ignore[assignment]
            if self.broken:
                return
            if self._held and not queue:
                data, self._held = self._held, b""
                self._parse(data)
            if content is not None:
                keep = stream.keep_alive and content.drop(DROP_MOST)
                content.conn = None
                if not keep:
                    channel.linger(LINGER)
                    return
            elif not stream.keep_alive:
                if (
                    stream.refusal is not None
                    or queue
                    or self._last
                    or self._failure
                    or self._parsing is not None
                ):
                    channel.linger(LINGER)
                return
            patience = self.server.keepalive_timeout

    def _receive(self, patience: float) -> bool:
        """Waits for a request and feeds the parser. False when the connection has ended."""
        channel = self.channel
        channel.deadline = monotonic() + patience
        if not self._last:
            if self.gate.successor is not None:
                self.gate.hand_over(self)
            if self.gate.closing:
                channel.deadline = monotonic() + min(patience, FAREWELL)
            self.idle = True
            try:
                data = channel.recv_waiting(RECV_HEAD)
            except (DeadlinePassed, OSError):
                return False
            finally:
                self.idle = False
                channel.deadline = math.inf
            if not data:
                return False
            self.feed(data)
            if self._queue or self._failure is not None:
                return True
        return self._receive_rest()

    def _receive_rest(self) -> bool:
        """Goes on with a head that came in pieces; the whole of it has `head_timeout` (slowloris)."""
        channel = self.channel
        channel.deadline = monotonic() + self.server.head_timeout
        try:
            while not self._queue and self._failure is None:
                data = channel.recv(RECV_HEAD)
                if not data:
                    if self._last:
                        self._failure = Refusal(400, "The request ends in the middle of its head.")
                        return True
                    return False
                self.feed(data)
        except DeadlinePassed:
            self._failure = Refusal(408, "The request took too long to arrive.")
        except OSError:
            return False
        finally:
            channel.deadline = math.inf
        return True

    def _refuse(self, refusal: Refusal) -> None:
        """Answers bytes that are no request we can serve, and closes."""
        stream = Server1Stream(self, False)
        stream.refusal = refusal
        stream.request = Request(stream, self, 11, "", b"", (), {})
        exchange.run(stream, self.server)
        stream.end()
        if not self.broken:
            self.channel.linger(LINGER)

    def take_over(self) -> tuple[Channel, bytes]:
        """Gives the channel up to another protocol, with what has come of it already."""
        data, self._held = self._held, b""
        return self.channel, data

    def drain(self) -> None:
        """Ends with the current or next response, idle soon: the gate closes."""
        if self.idle:
            self.channel.deadline = min(self.channel.deadline, monotonic() + FAREWELL)

    def close(self) -> None:
        """Closes the connection. Idempotent."""
        self._parser = None
        self.channel.close()

    # Parsing

    def feed(self, data: bytes) -> None:
        """Takes what has arrived."""
        if data.endswith(b"\r\n\r\n") and not self._last and self._parsing is None:
            line, _, block = data.partition(b"\r\n")
            server = self.server
            head = server.known_heads.get(block)
            known = server.known_lines.get(line) or learn_line(server, line)
            if known is None:
                self._parse(data)
            elif head is None:
                self._parse(data)
                if len(self._queue) == 1 and not self._last and self._parsing is None:  # alone and whole
                    learn_head(server, self._queue[0], block)
            else:  # the fields have been seen before, to the byte, behind a plain request line
                fields, index, site, keep_alive = head
                stream = Server1Stream(self, keep_alive)
                stream.request = request = Request(
                    stream, self, 11, known.method, known.target, fields, index
                )
                _, _, request.raw_path, request.path, request.query_string = known
                request.webapp, request.authority, request.hostname, request.port = site
                if self.trusted:
                    server.believe_proxy(request)
                if self.tls is not None:
                    self._check_site(stream, request)
                self._queue.append(stream)
        else:
            self._parse(data)

    def _parse(self, data: bytes) -> None:
        window = data
        while data:
            if not self._last:
                self._whole = self._parsing is None
            self._window = window = self._last + data if self._last else data
            try:
                self._parser.feed_data(data)
                break
            except HttpParserUpgrade as stop:
                data = data[stop.args[0] :]
                self._pass_upgrade()
                if self._parsing is None:
                    self._held = data
                    return
            except HttpParserError as error:
                self._fail(error, window)
                return
        if not self._begun:
            self._last = b""
            return
        self._last = window
        self._arrived += len(data)
        if self._failure is None:
            start = window if self._whole else b""
            self._failure = refusal_of_start(self._target, start, self._arrived, self.server)

    def _fail(self, error: HttpParserError, window: bytes) -> None:
        unknown = isinstance(error, HttpParserInvalidMethodError) and is_unknown_method(window, self._whole)
        if unknown is None:
            self._last = window  # the parser will stop there again
            return
        if unknown:
            refusal = Refusal(501, "The method is not known.")
        elif "HTTP version" in str(error) or "PRI" in str(error):
            if self.served == 0 and window.startswith(PREFACE) and self.tls is None:
                self.preface = window if "h2" in self.server.protocols and not self._queue else b""
            refusal = Refusal(505, "The version of HTTP is not supported.")
        else:
            refusal = Refusal(400, f"The request is malformed: {str(error).lower()}.")
        self._failure = refusal
        if self._parsing is not None and self._parsing.content is not None:
            self._refuse_content(self._parsing, self._parsing.content, refusal)

    def _refuse_content(self, stream: Server1Stream, content: Content1, refusal: Refusal) -> None:
        """Lets reading the content fail; a request that has not been served yet is refused as a whole."""
        content.refusal = refusal
        if stream in self._queue:
            stream.refusal = refusal
            stream.keep_alive = False

    def _pass_upgrade(self) -> None:
        """Goes on behind a head with Upgrade, where the parser stops: to ignore the field is allowed (RFC 9110 §7.8).

        The parser takes such a request for one without content. A new one is made to expect the content by a head
        of ours that is framed alike; its callbacks are ignored.
        """
        self._upgrading = False
        self._last = b""
        self._parser = HttpRequestParser(self)
        stream = self._parsing
        if stream is not None and stream.content is not None:
            self._expect(stream.content.size)

    def _expect(self, size: int) -> None:
        """Makes a new parser expect a content, chunked when the size is -1."""
        framing = b"content-length: %d" % size if size >= 0 else b"transfer-encoding: chunked"
        self._priming = True
        self._parser.feed_data(b"POST / HTTP/1.1\r\n" + framing + b"\r\n\r\n")

    def skip(self, left: int) -> None:
        """Goes on behind content that came past the parser, with `left` bytes of it still to come."""
        self._parser = HttpRequestParser(self)
        if left:
            self._expect(left)
        else:
            self._parsing = None

    def on_message_begin(self) -> None:
        """Notes that a head has begun; empty lines before it have not."""
        self._begun = True
        self._arrived = 0 if self._whole else -len(self._window)  # where in it, nobody knows

    def on_url(self, target: bytes) -> None:
        """Takes the next piece of a target."""
        self._target = self._target + target if self._target else target

    def on_header(self, name: bytes, value: bytes) -> None:
        """Takes a field, of the head or of the trailer section."""
        self._fields.append((name.lower(), value))

    def on_headers_complete(self) -> None:
        """Queues the request, or the refusal of it."""
        fields, self._fields = self._fields, []
        target, self._target = self._target, b""
        self._begun = self._whole = False
        if self._priming:
            self._priming = False
            return
        parser = self._parser
        method = parser.get_method()
        stream = Server1Stream(self, parser.should_keep_alive())
        # A request that keeps the connection and has none of these fields is HTTP/1.1; asking the parser costs more.
        index = dict(fields)
        version = 11
        if not stream.keep_alive or b"connection" in index or b"proxy-connection" in index:
            version = _VERSIONS.get(parser.get_http_version(), 0)
        name = METHOD_NAMES.get(method) or method.decode("latin-1")
        request = Request(stream, self, version, name, target, fields, index)
        stream.request = request
        self._parsing = stream
        self._queue.append(stream)
        try:
            self._examine(stream, request, method)
        except Refusal as refusal:
            stream.refusal = refusal
            stream.keep_alive = False

    def _examine(self, stream: Server1Stream, request: Request, method: bytes) -> None:
        """Checks what the parser does not, and fills the request in. Raises Refusal."""
        server, index, fields, target = self.server, request.index, request.fields, request.target
        window = self._window
        if b"  " in window or b" \r\n" in window or b"\t\r\n" in window:
            check_request_line(method, target, window)
            request.fields = fields = [(name, value.rstrip(b" \t")) for name, value in fields]
            request.index = index = dict(fields)
        version = request.version
        if not version:
            request.version = 11
            if self._parser.get_http_version() == "0.9":
                raise Refusal(400, "HTTP/0.9 is not served.")
            raise Refusal(505, "The version of HTTP is not supported.")
        if len(index) != len(fields):
            request.index = index = merge_fields(fields)
        if version == 10 and stream.keep_alive and b"close" in split_options(index.get(b"connection", b"")):
            stream.keep_alive = False  # RFC 9112 §9.3: close wins
        if len(target) > server.max_target_size:
            raise Refusal(414, "The target of the request is too long.")
        if len(fields) > server.max_fields or (
            len(window) > server.max_head_size
            and len(method) + head_size(target, fields) > server.max_head_size
        ):
            raise Refusal(431, "The head of the request is too large.")
        if b"content-length" in index or b"transfer-encoding" in index:
            request.content_size = size = content_size(request.method, version, index)
            if size:
                stream.content = Content1(self, size, False)
        if b"upgrade" in index and self._parser.should_upgrade():
            self._upgrading = True
        host = index.get(b"host")
        if host is None:
            if version >= 11:
                raise Refusal(400, "The field Host is missing.")
            host = b""
        if target[:1] == b"/" and b"#" not in target and method != b"CONNECT":
            raw_path, _, query = target.partition(b"?")
            request.raw_path = raw_path
            request.query_string = query.decode("utf-8", "surrogateescape") if query else ""
            try:
                request.path = normalise_path(raw_path)
            except BadTarget as error:
                raise Refusal(400, f"The target is not usable: {error}.") from error
        else:
            host = self._examine_target(request, host)
        site = server.sites.get(host)
        if site is None:
            site = server.find_site(host)
        request.webapp, request.authority, request.hostname, request.port = site
        if b"expect" in index:
            self._examine_expect(stream, version, index[b"expect"])
        if self.trusted:
            server.believe_proxy(request)
        if self.tls is not None:
            server.check_site(request, self.tls)

    def _check_site(self, stream: Server1Stream, request: Request) -> None:
        try:
            self.server.check_site(request, self.tls)
        except Refusal as refusal:
            stream.refusal = refusal
            stream.keep_alive = False

    def _examine_target(self, request: Request, host: bytes) -> bytes:
        """Takes apart a target that is no path. Returns the authority that counts (RFC 9112 §3.2.2)."""
        if b"#" in request.target:
            raise Refusal(400, "The target must not have a fragment.")
        try:
            target = split_target(request.target)
            request.raw_path, request.query_string = target.raw_path, target.query
            if target.form == "authority" or request.method == "CONNECT":
                raise Refusal(501, "Tunnels are not served here.")
            if target.form == "asterisk":
                if request.method != "OPTIONS":
                    raise Refusal(400, "The target * is for OPTIONS only.")
                request.path = "*"
                return host
            if target.scheme not in ("http", "https"):
                raise Refusal(400, "The scheme of the target must be http or https.")
            if host:
                split_authority(host)  # it does not count, but must be good (RFC 9112 §3.2)
            request.path = normalise_path(target.raw_path)
            if request.method == "OPTIONS" and request.target.endswith(
                b"//" + (target.authority or "").encode()
            ):
                request.path = "*"  # without any path it means the server (RFC 9112 §3.2.4)
        except BadTarget as error:
            raise Refusal(400, f"The target is not usable: {error}.") from error
        authority = (target.authority or "").encode("latin-1")
        if authority != host:  # apps that look at the field must see the host that the webapp was chosen by
            request.delete_header("host")
            request.add_header("host", authority.decode("latin-1"))
        return authority

    def _examine_expect(self, stream: Server1Stream, version: int, value: bytes) -> None:
        if version < 11:
            return
        if value.lower() != b"100-continue":
            raise Refusal(417, "The only known expectation is 100-continue.")
        if stream.content is not None:
            stream.content.expect = True

    def on_body(self, data: bytes) -> None:
        """Takes a piece of content."""
        stream = self._parsing
        if stream is not None and stream.content is not None:
            content = stream.content
            content.chunks.append(data)
            content.arrived += len(data)
            content.expect = False

    def on_message_complete(self) -> None:
        """Ends the content; the fields since the head are its trailers."""
        if self._upgrading:
            if self._parsing is not None and self._parsing.content is not None:
                return  # of a request with Upgrade the parser reports the end before the content
            self._upgrading = False
        stream, self._parsing = self._parsing, None
        if stream is not None and stream.content is not None:
            fields, self._fields = self._fields, []
            if fields:
                if self.has_excess(fields):
                    self._failure = Refusal(431, "The trailers are too large.")
                    self._refuse_content(stream, stream.content, self._failure)
                    return
                stream.request.trailer_fields = [(name, value.rstrip(b" \t")) for name, value in fields]
            stream.content.complete = True

    @property
    def pending_fields(self) -> list[tuple[bytes, bytes]]:
        """The fields of the section that is being parsed."""
        return self._fields

    def has_excess(self, fields: list[tuple[bytes, bytes]]) -> bool:
        """True when a field section is larger than may be."""
        return len(fields) > self.server.max_fields or head_size(b"", fields) > self.server.max_head_size
