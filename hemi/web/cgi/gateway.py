"""One exchange with a server that speaks FastCGI, SCGI or uwsgi, and what the three proxies share.

Laws of this module:
- What went wrong with the client is never noted against a node, and the other way round.
- A request is sent again only when nothing of an answer has come, its content is here, and its method allows it.
- A connection goes back to its pool before the answer goes to the client where that is possible, and only when
  both messages on it have ended where they had to.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from time import monotonic
from typing import TYPE_CHECKING, Any, Protocol

from hemi.component import prop
from hemi.library.fcgi import FCGIError
from hemi.upstream.errors import DialFailed, NoNodeAvailable, UpstreamError
from hemi.web.cgi.answer import BadReply
from hemi.web.cgi.errorlines import ErrorLines
from hemi.web.cgi.handlet import CGIHandlet
from hemi.web.cgi.reply import Reply
from hemi.web.cgi.variables import Encoder, Script, Variables
from hemi.web.cgi.wires import ChannelWire, upload
from hemi.web.errors import CLIENT_LEFT, ClientGone, HTTPError
from hemi.web.fields import is_token
from hemi.web.proxy.backend import http_error_for
from hemi.web.proxy.retries import Cause, Retries
from hemi.web.proxy.spool import Spool, gather

if TYPE_CHECKING:
    from hemi.upstream.lease import Lease
    from hemi.web.proxy.backend import WebBackend
    from hemi.web.proxy.responses import Begun
    from hemi.web.request import Request
    from hemi.web.response import Response

__all__ = ["Dialect", "Gateway"]

REPLAYABLE = 65536
"""Contents up to this size are taken into memory before a node is asked, and can be sent again."""


class AnswerReader(Protocol):
    """Takes apart what a node sends."""

    done: bool
    excess: bool
    errors: list[bytes]

    def feed(self, data: bytes) -> bytes: ...


class Dialect(Protocol):
    """How a protocol says things. `ends_with_conn` says how its answers end."""

    ends_with_conn: bool
    needs_size: bool
    end: bytes
    abort: bytes

    def encode(self, pairs: Iterable[tuple[bytes, bytes]]) -> bytes:
        """Variables. Raises ValueError when they cannot be said."""
        ...

    def head(self, block: bytes, size: int) -> bytes:
        """What goes before the content, with these variables. Raises ValueError when they cannot be said."""
        ...

    def frame(self, data: bytes) -> bytes:
        """A piece of the content."""
        ...

    def reader(self) -> AnswerReader:
        """For one answer."""
        ...


class Gateway(CGIHandlet):
    """What the proxies of the three protocols have in common."""

    max_retries: int = prop(
        2, "How often to try other nodes, when there is no connection or it breaks unused.", least=0, most=20
    )
    sticky_cookie: str = prop("gorox_node", "The cookie for a backend with sticky_secret.")

    backend: WebBackend
    dialect: Dialect

    def check(self) -> Iterator[str | tuple[str, str]]:
        """Names must be such."""
        yield from super().check()
        if not is_token(self.sticky_cookie.encode()):
            yield "sticky_cookie", f'must be the name of a cookie, not "{self.sticky_cookie}"'

    def ready(self, backend: WebBackend, dialect: Dialect, root: str) -> None:
        """Lays out what is the same for all requests; to be called by `prepare`."""
        self.backend = backend
        self.dialect = dialect
        self.encoder = Encoder(Variables(root, tuple(self.params.items())), dialect.encode)
        self.keeps_conns = bool(getattr(backend, "keep_conn", False))
        self.reply_rules = self.make_reply_rules(backend.max_head_size)
        self.retries = Retries(self.max_retries)

    def forward(self, req: Request, resp: Response, script: Script) -> bool:
        """Passes the request on, and the answer back."""
        Exchange(self, req, resp).run(script)
        return True

    def make_head(self, req: Request, script: Script, size: int) -> bytes:
        """What goes before the content. Raises HTTPError 431."""
        try:
            return self.dialect.head(self.encoder.make(req, script, size), max(size, 0))
        except ValueError as error:
            self.stage.log.warning(self.sign, f"{req.line()} from {req.src_host}: {error}")
            raise HTTPError(431, "The fields are too large for the server behind this one.") from error


class Exchange:
    """One exchange. `gone` says that its client has left."""

    __slots__ = (
        "answered",
        "channel",
        "content",
        "deadline",
        "ended",
        "gateway",
        "gone",
        "head",
        "lease",
        "lines",
        "may_repeat",
        "noted",
        "reader",
        "reply",
        "req",
        "resp",
        "sent",
        "size",
        "spool",
        "trouble",
    )

    lease: Lease
    reader: AnswerReader

    def __init__(self, gateway: Gateway, req: Request, resp: Response) -> None:
        self.gateway = gateway
        self.req = req
        self.resp = resp
        self.size = 0
        self.content: bytes | None = b""
        self.spool: Spool | None = None
        self.head = b""
        self.gone = False
        self.may_repeat = True
        self.channel: Any = None
        self.reply: Reply = None  # type: ignore[assignment]  # until there is a connection
        self.deadline = req.started + gateway.total_timeout if gateway.total_timeout else math.inf
        self.lines = ErrorLines(self._log_line)
        self._reset()

    def _reset(self) -> None:
        """Forgets what belongs to a try."""
        self.answered = False  # a byte of the answer has come
        self.noted = False  # the node knows that it has answered
        self.sent = False  # the request has gone out to its end
        self.ended = False
        self.trouble: OSError | None = None  # with sending

    def __repr__(self) -> str:
        return f"<Exchange {self.req!r} sent={self.sent} ended={self.ended}>"

    def run(self, script: Script) -> None:
        """Does it all. Raises HTTPError for what becomes an error page, ClientGone, SearchAgain."""
        gateway, req = self.gateway, self.req
        backend = gateway.backend
        try:
            self._gather()
            self.head = self.gateway.make_head(req, script, self.size)
            tag = req.cookie_text(gateway.sticky_cookie) if backend.sticky_secret else ""
            self.lease = backend.lease(req, self.deadline, tag)
            self._serve(None)
        finally:
            self._close()

    def take_up(self, head: bytes, begun: Begun) -> None:
        """Goes on with what a `Lane` has begun."""
        self.head = head
        self.gone = begun.conn is not None and begun.conn.gone
        self.lease = self.gateway.backend.lease(self.req, self.deadline)
        self.lease.adopt(begun.node, begun.conn, begun.taken)
        try:
            self._serve(begun)
        finally:
            self._close()

    def _serve(self, begun: Begun | None) -> None:
        backend = self.gateway.backend
        backend.exchanges.add(self)
        try:
            done = self._ask(begun.conn, begun) if begun is not None and begun.conn else self._attempt()
            while not done:
                done = self._attempt()
        except UpstreamError as failure:
            self._fail(failure)
        finally:
            backend.exchanges.discard(self)
            self.lines.finish()
            self.lease.end()
        self.reply.finish()  # the node has no part in it any more

    def _close(self) -> None:
        if self.spool is not None:
            self.spool.close()
        if self.reply is not None:
            self.reply.close()

    # For the backend, which looks after clients that leave

    def is_abandoned(self) -> bool:
        """Whether nobody waits for the answer any more."""
        return not self.gone and not self.gateway.ignore_client_abort and self.req.stream.is_gone()

    def cancel(self) -> None:
        """Tells the node, and wakes the exchange out of what it waits for."""
        self.gone = True
        channel, abort = self.channel, self.gateway.dialect.abort
        if channel is None:
            return
        if abort and self.sent and channel.tls is None:
            try:
                channel.sock.send(abort)
            except OSError:
                pass
        channel.cut(monotonic())

    # The request

    def _gather(self) -> None:
        """Decides how the content goes to the node: from memory, from disk, or as it arrives."""
        req, gateway = self.req, self.gateway
        size = req.content_size if not req.filters else -1
        if size and (gateway.buffer_request or (size < 0 and gateway.dialect.needs_size)):
            self.spool = gather(req, gateway.buffer_memory, gateway.stage.dirs.tmp)
            self.content, self.size = self.spool.content, self.spool.size
        elif 0 < size <= REPLAYABLE and b"expect" not in req.index:
            self.content, self.size = req.read(size), size
        elif size:
            self.content, self.size = None, size

    def _pieces(self) -> Iterator[bytes]:
        """The request as it goes over the wire."""
        dialect = self.gateway.dialect
        content = self.content
        if content is not None:
            yield self.head + dialect.frame(content) + dialect.end
            return
        yield self.head
        if self.spool is not None:
            for data in self.spool:
                yield dialect.frame(data)
        else:
            self.may_repeat = False
            while data := self.req.receive():
                yield dialect.frame(data)
        if dialect.end:
            yield dialect.end

    # Tries

    def _attempt(self) -> bool:
        """Asks one node. Returns False to try another one. Raises UpstreamError, and what is wrong with the client."""
        lease = self.lease
        try:
            conn = lease.take()
        except DialFailed as failure:
            self._retry("connect", failure)
            return False
        except NoNodeAvailable as error:
            raise lease.reason(error) from None
        return self._ask(conn, None)

    def _ask(self, conn: Any, begun: Begun | None) -> bool:
        """Asks the node of a connection, unless that has begun. Returns and raises as `_attempt`."""
        lease = self.lease
        while True:
            self._reset()
            try:
                self._check_client()
                first, begun = begun, None
                self._talk(conn, first)
                return True
            except ClientGone:
                self._note_left()
                raise
            except (OSError, BadReply, FCGIError) as error:
                self._check_client()
                timed_out = isinstance(error, TimeoutError)
                broken = isinstance(error, OSError) and not timed_out and not self.answered
                if broken and conn.uses > 1 and self._may_send_again():
                    try:
                        conn = lease.redial()  # it was closed while it was idle; the node itself may be well
                        continue
                    except DialFailed as failure:
                        self._retry("connect", failure)
                        return False
                cause: Cause = "timeout" if timed_out else "closed" if broken else "malformed"
                self._retry(cause, lease.fail(self._phase(), error))
                return False
            finally:
                self.channel = None

    def _phase(self) -> str:
        if self.noted:
            return "content"
        return "head" if self.sent or self.answered else "send"

    def _may_send_again(self) -> bool:
        return self.may_repeat and self.req.method in self.gateway.retries.methods

    def _retry(self, cause: Cause, failure: UpstreamError) -> None:
        """Raises the failure if there may not be another try."""
        self._check_client()
        allowed = self.may_repeat and self.gateway.retries.allow(cause, self.req.method, self.lease.tries)
        if not allowed or self.answered or monotonic() >= self.deadline:
            raise failure
        self.gateway.stage.log.warning(self.gateway.sign, f"{failure}: {self.req.line()} is tried again")

    def _check_client(self) -> None:
        if self.gone:
            self._note_left()
            raise ClientGone("the client has left")

    def _note_left(self) -> None:
        if not self.resp.is_sent:
            self.resp.status = CLIENT_LEFT

    # One try

    def _talk(self, conn: Any, begun: Begun | None) -> None:
        """Sends the request, unless that has been done, and takes the answer, which is complete then, but for what
        `finish` of the reply sends."""
        gateway, lease = self.gateway, self.lease
        self.channel = conn.channel
        self.reader = gateway.dialect.reader()
        self.reply = Reply(self.req, self.resp, gateway.reply_rules, self._warn)
        wire = ChannelWire(conn.channel)
        if begun is None:
            self._send(wire)
        else:
            self.sent = True
            if begun.failure is not None:
                raise begun.failure
            self._take(begun.data)
        head_deadline = min(self.deadline, monotonic() + gateway.head_timeout)
        while not self.ended:
            if self.reply.head is None:
                deadline = head_deadline
            else:
                self.reply.push()
                self._check_client()
                deadline = min(self.deadline, monotonic() + gateway.read_timeout)
            try:
                data = wire.receive(deadline)
            except TimeoutError:
                raise
            except OSError as error:
                raise self.trouble or error from None
            self._take(data)
        self.reply.check_end()
        reader = self.reader
        if reader.excess:
            self._warn("it sends more than its answer; the rest is dropped")
        lease.done(
            reader.done and self.sent and not reader.excess and not self.reply.excess and gateway.keeps_conns
        )

    def _send(self, wire: ChannelWire) -> None:
        try:
            self.sent = upload(wire, self._pieces(), self._take_early, self.deadline)
        except (ClientGone, TimeoutError):
            raise
        except OSError as error:
            self.trouble = error  # it may have answered nevertheless: why it does not want the content

    def _take_early(self, data: bytes) -> bool:
        """Takes what comes while the request still goes out, and passes it on: it must not pile up here."""
        if self._take(data):
            return True
        self.reply.push()
        return False

    def _take(self, data: bytes) -> bool:
        """Takes what the node has sent, b"" for the end of the connection; True when that was the end of the answer."""
        reader, reply = self.reader, self.reply
        if not data:
            if not self.gateway.dialect.ends_with_conn:
                when = "before its answer ended" if self.answered else "before it answered"
                raise self.trouble or ConnectionAbortedError(f"the node closed the connection {when}")
            if self.trouble is not None and not self.answered:
                raise self.trouble
            self.ended = True
            return True
        self.answered = True
        out = reader.feed(data)
        if reader.errors:
            for piece in reader.errors:
                self.lines.feed(piece)
            reader.errors.clear()
        if out:
            reply.feed(out)
        if reply.head is not None and not self.noted:
            self.noted = True
            self.lease.answered(reply.head.status)
            if self.gateway.backend.sticky_secret and self.lease.stick_to:
                self.resp.set_cookie(self.gateway.sticky_cookie, self.lease.stick_to)
        self.ended = reader.done or (self.gateway.dialect.ends_with_conn and reply.is_whole)
        return self.ended

    # The log

    def _node(self) -> str:
        node = self.lease.node
        return f'backend "{self.gateway.backend.name}": node {node.key if node is not None else "?"}'

    def _warn(self, what: str) -> None:
        self.gateway.stage.log.warning(self.gateway.sign, f"{self._node()}: {what} ({self.req.line()})")

    def _log_line(self, line: str) -> None:
        self.gateway.stage.log.error(self.gateway.sign, f"{self._node()}: stderr: {line} ({self.req.line()})")

    def _fail(self, failure: UpstreamError) -> None:
        """Logs why there is no answer, or no end of it, and raises the HTTPError that tells the client."""
        req = self.req
        self.gateway.stage.log.error(self.gateway.sign, f"{failure}: {req.line()} from {req.src_host}")
        raise http_error_for(failure) from failure
