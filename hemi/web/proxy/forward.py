"""One exchange through a proxy: the request goes to a node, perhaps to several in turn, and the answer comes back.

One greenlet does it all for requests without content, or with one that is here: send, wait, pass on. A content that
still arrives is passed on by a second one, while the first waits for the answer, which may come before the content
has ended (RFC 9112 §9.3).

Laws of this module:
- What went wrong with the client is never noted against a node, and the other way round.
- A connection goes back to its pool before the answer goes to the client where that is possible, and only when
  both messages on it have ended where they had to.
- A deadline of a node's channel holds only while something waits for the node.
"""

from __future__ import annotations

import math
from time import monotonic
from typing import TYPE_CHECKING, Any, Protocol, cast

import gevent

from hemi.upstream.errors import DialFailed, NoNodeAvailable, UpstreamError
from hemi.web.errors import CLIENT_LEFT, ClientGone, NotProcessed
from hemi.web.h1.answer import BadAnswer, Head
from hemi.web.proxy.backend import http_error_for
from hemi.web.proxy.contents import REPLAYABLE, Download, Upload
from hemi.web.proxy.names import CONNECTION, FRAMING, passable_trailers
from hemi.web.proxy.retries import Cause
from hemi.web.proxy.spool import Spool, gather
from hemi.web.proxy.tunnel import Tunnel, give_key, take_accept
from hemi.web.proxy.wstunnel import WebSocketTunnel
from hemi.web.websocket.handshake import VERSION, WEBSOCKET
from hemi.web.websocket.keeper import keeper_of

if TYPE_CHECKING:
    from hemi.stage import Stage
    from hemi.upstream.lease import Lease
    from hemi.web.h1.backend import Backend1Stream
    from hemi.web.proxy.mirror import Mirror
    from hemi.web.proxy.requests import RequestHead
    from hemi.web.proxy.responses import Begun, ResponseHead
    from hemi.web.proxy.retries import Budget, Retries
    from hemi.web.request import Request
    from hemi.web.response import Response

__all__ = ["Forward", "Terms"]

MAX_REFUSALS = 2
"""How often a node is asked again that did not begin, on other connections, before that is a failure."""


class Terms(Protocol):
    """What the handlet says about its exchanges. Times are in seconds, sizes in bytes."""

    stage: Stage
    to_backend: Any
    request_head: RequestHead
    response_head: ResponseHead
    retries: Retries
    budget: Budget
    mirror_to: Mirror | None
    protocols: frozenset[bytes]
    own_host: str
    sticky_cookie: str
    buffer_request: bool
    buffer_response: bool
    buffer_memory: int
    max_buffer_size: int
    head_timeout: float
    read_timeout: float
    total_timeout: float
    tunnel_timeout: float


class Forward:
    """One exchange. `gone` says that its client has left; `spool` has a buffered request, `upload` and `download` pass
    contents on; `refusals` counts connections on which the node did not begin."""

    __slots__ = (
        "backend",
        "content",
        "deadline",
        "download",
        "expects",
        "gone",
        "head",
        "key",
        "lease",
        "may_repeat",
        "proxy",
        "pump",
        "refusals",
        "req",
        "resp",
        "size",
        "spool",
        "stream",
        "upgrade",
        "upload",
    )

    def __init__(self, proxy: Terms, req: Request, resp: Response) -> None:
        self.proxy = proxy
        self.backend: Any = proxy.to_backend
        self.req = req
        self.resp = resp
        self.size = 0
        self.content: bytes | None = b""
        self.spool: Spool | None = None
        self.upload: Upload | None = None
        self.download: Download | None = None
        self.upgrade = b""
        self.key = b""
        self.expects = False
        self.gone = False
        self.pump: Any = None
        self.may_repeat = True
        self.refusals = 0
        self.stream: Backend1Stream = None  # type: ignore[assignment]
        self.lease: Lease = None  # type: ignore[assignment]
        self.deadline = req.started + proxy.total_timeout if proxy.total_timeout else math.inf

    def __repr__(self) -> str:
        return f"<Forward {self.req!r} lease={self.lease!r}>"

    def run(self) -> None:
        """Does it all. Raises HTTPError for what becomes an error page, ClientGone."""
        proxy, req, backend = self.proxy, self.req, self.backend
        if req.content_size:
            self._gather()
        elif b"upgrade" in req.index and proxy.protocols:
            self._ask_upgrade()
        self.head = proxy.request_head.make(req, self.size, self.upgrade, self.expects)
        proxy.budget.earn()
        if proxy.mirror_to is not None and self.content is not None and not self.upgrade:
            proxy.mirror_to.offer(req.method, self.head, self.content)
        self.lease = backend.lease(
            req, self.deadline, req.cookie_text(proxy.sticky_cookie) if backend.sticky_secret else ""
        )
        self._serve(None)

    def take_up(self, head: bytes, begun: Begun) -> None:
        """Goes on with what a `Lane` has begun."""
        self.head = head
        self.gone = begun.conn is not None and begun.conn.gone
        self.lease = self.backend.lease(self.req, self.deadline)
        self.lease.adopt(begun.node, begun.conn, begun.taken)
        self._serve(begun)

    def _serve(self, begun: Begun | None) -> None:
        exchanges, lease = self.backend.exchanges, self.lease
        exchanges.add(self)
        try:
            head = self._ask(begun.conn, begun) if begun is not None and begun.conn else self._attempt()
            while head is None:
                head = self._attempt()
            self._respond(head)
        except UpstreamError as failure:
            self._fail(failure)
        finally:
            exchanges.discard(self)
            if self.pump is not None:
                self.pump.kill()
            if self.spool is not None:
                self.spool.close()
            if self.download is not None:
                self.download.close()
            lease.end()

    # For the backend, which looks after clients that leave

    def is_abandoned(self) -> bool:
        """Whether nobody waits for the answer any more."""
        return not self.gone and self.req.stream.is_gone()

    def cancel(self) -> None:
        """Wakes the exchange out of what it waits for."""
        self.gone = True
        if self.stream is not None:
            self.stream.channel.cut(monotonic())

    # The request

    def _gather(self) -> None:
        """Decides how the content goes to the node: from memory, from disk, or as it arrives."""
        req, proxy = self.req, self.proxy
        size = req.content_size if not req.filters else -1
        self.expects = b"expect" in req.index
        if proxy.buffer_request:
            self.expects = False
            self._buffer_request()
        elif 0 < size <= REPLAYABLE and not self.expects:
            self.content = req.read(size)
            self.size = size
        elif size < 0 and self._is_here():
            self.content = req.read()
            self.size = len(self.content)
        else:
            self.content = None
            self.size = size

    def _is_here(self) -> bool:
        """Whether a content without a length has come to its end already, as that of gRPC calls mostly has: it needs no
        second greenlet then, and can be sent again."""
        req = self.req
        content = req.stream.content
        return (
            content is not None
            and content.complete
            and content.arrived <= REPLAYABLE
            and not (req.filters or req.trailer_fields)
        )

    def _buffer_request(self) -> None:
        spool = self.spool = gather(self.req, self.proxy.buffer_memory, self.proxy.stage.dirs.tmp)
        if passable_trailers(self.req.trailer_fields or ()):
            self.content, self.size = None, -1  # trailers need chunks in HTTP/1.1
        else:
            self.content, self.size = spool.content, spool.size

    def _ask_upgrade(self) -> None:
        """Takes over those of the protocols that the client wants, and that may be used here (RFC 9110 §7.8)."""
        req = self.req
        options = req.index.get(b"connection", b"").lower()
        if not req.stream.has_upgrade or (req.version == 11 and b"upgrade" not in options):
            return
        wanted = [one.strip() for one in req.index[b"upgrade"].split(b",")]
        self.upgrade = b", ".join([one for one in wanted if one.lower() in self.proxy.protocols])
        if req.version != 11 and self.upgrade.lower() == WEBSOCKET:
            self.key = give_key(req)

    def _attempt(self) -> Head | None:
        """Asks one node. Returns the head of its answer, or None to try another one. Raises UpstreamError."""
        lease = self.lease
        try:
            conn = lease.take()
        except DialFailed as failure:
            self._retry("connect", failure)
            return None
        except NoNodeAvailable as error:
            raise lease.reason(error) from None
        return self._ask(conn, None)

    def _ask(self, conn: Any, begun: Begun | None) -> Head | None:
        """Asks the node of a connection, unless that has begun. Returns and raises as `_attempt`."""
        lease, backend, req = self.lease, self.backend, self.req
        while True:
            self.stream = stream = backend.open_stream(conn, req.method)
            try:
                if self.gone:
                    raise ClientGone("the client has left")
                if begun is None:
                    self._send(stream)
                else:
                    stream.go_on(begun.data)
                    failure, begun = begun.failure, None
                    if failure is not None:
                        raise failure
                head = self._receive(stream)
            except ClientGone:
                self._note_left()
                raise
            except (OSError, BadAnswer) as error:
                self._check_client()
                if self.pump is not None:
                    self.pump.kill()
                    self.pump = None
                timed_out = isinstance(error, TimeoutError)
                refused = isinstance(error, NotProcessed)
                if refused:
                    again = self._may_send_refused()
                else:
                    again = conn.uses > 1 and not (stream.answered or timed_out) and self._may_send_again()
                if again:
                    try:
                        conn = lease.redial()  # it was closed while it was idle; the node itself may be well
                        continue
                    except DialFailed as refusal:
                        self._retry("connect", refusal)
                        return None
                cause: Cause = "timeout" if timed_out else "connect" if refused else "closed"
                if isinstance(error, BadAnswer) or (stream.answered and not timed_out):
                    cause = "malformed"
                self._retry(cause, lease.fail("head" if stream.sent else "send", error))
                return None
            if head.status in self.proxy.retries.statuses and self._other_is_left():
                lease.answered(head.status)
                if self._allows("status"):
                    self._log_retry(lease.fail("status", f"status {head.status}", counts=False))
                    return None
            return head

    def _may_send_again(self) -> bool:
        return self.may_repeat and self.req.method in self.proxy.retries.methods

    def _may_send_refused(self) -> bool:
        """Whether to ask the same node again on another connection, after it has said that it did not begin."""
        self.may_repeat = self.upload is None or self.upload.passed is not None
        self.refusals += 1
        return self.may_repeat and self.refusals <= MAX_REFUSALS

    def _other_is_left(self) -> bool:
        return any(
            node not in self.lease.tried and node is not self.lease.node for node in self.backend.roster.ready
        )

    def _allows(self, cause: Cause) -> bool:
        """Whether there may be another try; it counts as one then."""
        proxy = self.proxy
        return (
            self.may_repeat
            and proxy.retries.allow(cause, self.req.method, self.lease.tries)
            and monotonic() < self.deadline
            and proxy.budget.spend()
        )

    def _retry(self, cause: Cause, failure: UpstreamError) -> None:
        """Raises the failure if there may not be another try."""
        if self.gone:
            self._note_left()
            raise ClientGone("the client has left")
        if not self._allows(cause):
            raise failure
        self._log_retry(failure)

    def _log_retry(self, failure: UpstreamError) -> None:
        self.proxy.stage.log.warning("proxy", f"{failure}: {self.req.line()} is tried again")

    def _check_client(self) -> None:
        """Raises what went wrong with the client, if that was what ended the wait for the node."""
        if self.gone:
            self._note_left()
            raise ClientGone("the client has left")
        trouble = self.upload.trouble if self.upload is not None else None
        if trouble is not None:
            if isinstance(trouble, ClientGone):
                self._note_left()
            raise trouble

    def _note_left(self) -> None:
        if not self.resp.is_sent:
            self.resp.status = CLIENT_LEFT

    def _send(self, stream: Backend1Stream) -> None:
        """Sends the request, or its head, and begins with its content."""
        channel = stream.channel
        if self.content is None or self.size > REPLAYABLE:
            upload = self.upload = self.upload or Upload(self)
            stream.chunked = self.size < 0
            if self.spool is None:
                self.may_repeat = False
                stream.send_head(self.head)
                self.pump = gevent.spawn(upload.run, stream)
            else:
                self.pump = gevent.spawn(upload.run_spool, stream, self.spool)
            return
        stream.send_whole(self.head, self.content)
        if self.deadline == math.inf:
            channel.deadline = self.lease.taken + self.proxy.head_timeout
        else:
            channel.deadline = min(self.deadline, self.lease.taken + self.proxy.head_timeout)

    def begin_to_wait(self, stream: Backend1Stream) -> None:
        """The request has gone out: the time of the node begins."""
        if not stream.answered:
            stream.channel.deadline = min(self.deadline, monotonic() + self.proxy.head_timeout)

    # The answer

    def _receive(self, stream: Backend1Stream) -> Head:
        """Waits for the head of the answer; interim ones are passed on (RFC 9110 §15.2)."""
        head = stream.read_head()
        while head.status < 200:
            if head.status == 101:
                protocol = (head.get(b"upgrade") or b"").lower()
                if not self.upgrade or protocol not in self.upgrade.lower().split(b", "):
                    raise BadAnswer("it switches to a protocol that was not asked for")
                if self.key:
                    head = take_accept(head, self.key)
                break
            if head.status == 100:
                if self.expects and self.upload is not None:
                    self.upload.proceed.set()
            elif self.req.stream.has_informational:
                dropped = CONNECTION | FRAMING | head.options
                fields = [field for field in head.fields if field[0] not in dropped]
                self.req.stream.send_informational(head.status, fields)
            head = stream.read_head()
        stream.channel.deadline = math.inf
        return head

    def _respond(self, head: Head) -> None:
        """Passes the answer on."""
        lease, stream, req, resp, proxy = self.lease, self.stream, self.req, self.resp, self.proxy
        node = lease.node
        lease.answered(head.status)
        proxy.response_head.apply(head, req, resp, node.key if node is not None else "", proxy.own_host)
        if self.backend.sticky_secret and lease.stick_to:
            resp.set_cookie(proxy.sticky_cookie, lease.stick_to)
        if head.status == 101:
            self._tunnel(head)
            return
        size = head.size
        if stream.complete:
            self.release()
            if req.method == "HEAD" and (size < 0 or resp.revisers):
                resp.content_size = max(size, -1)
                resp.open()
                resp.finish()
            else:
                resp.content_size = size
                resp.deliver(b"")
            return
        if 0 < size <= REPLAYABLE:
            content = stream.take_whole(size)
            if content is not None:
                self.release()
                resp.deliver(content)
                return
        self.download = Download(self)
        if proxy.buffer_response and resp.content_type != "text/event-stream":
            self.download.buffer(size)
        else:
            resp.content_size = max(size, -1)
            resp.open()
            self.download.relay()

    def release(self) -> None:
        """Gives the connection back: all of the answer is here."""
        stream = self.stream
        keep = stream.end()
        if stream.excess:
            self.warn("sent more than its answer; the rest is dropped")
        self.lease.done(keep and not self.gone)

    def warn(self, what: str) -> None:
        node = self.lease.node
        self.proxy.stage.log.warning(
            "proxy",
            f'backend "{self.backend.name}": node {node.key if node is not None else "?"}: {what} ({self.req.line()})',
        )

    def lost_node(self, phase: str, error: Exception) -> UpstreamError:
        """Notes that the node failed, if it was not the client; returns what to raise."""
        self._check_client()
        return self.lease.fail(phase, error)

    def _tunnel(self, head: Head) -> None:
        """Carries the protocol that client and node have agreed on, until both have ended."""
        req, resp = self.req, self.resp
        client, early = req.stream.take_over(resp, cast("bytes", head.get(b"upgrade")))
        resp.status = 101  # what it is in logs and meters, although HTTP/2 says 200
        node, data = self.stream.take_over()
        tunnel = self._make_tunnel(head, client, node)
        self.gone = True  # the tunnel sees by itself who has left
        try:
            tunnel.run(early, data)
        finally:
            resp.bytes_sent += tunnel.sent
            req.received += tunnel.received

    def _make_tunnel(self, head: Head, client: Any, node: Any) -> Tunnel:
        """A tunnel that knows WebSockets for one. Those from before RFC 6455 had other frames."""
        idle = self.proxy.tunnel_timeout
        is_known = self.req.index.get(b"sec-websocket-version") == VERSION
        if is_known and (head.get(b"upgrade") or b"").lower() == WEBSOCKET:
            return WebSocketTunnel(client, node, idle, keeper_of(self.proxy.stage))
        return Tunnel(client, node, idle)

    # Errors

    def _fail(self, failure: UpstreamError) -> None:
        """Logs why there is no answer, or no end of it, and raises the HTTPError that tells the client."""
        req = self.req
        self.proxy.stage.log.error("proxy", f"{failure}: {req.line()} from {req.src_host}")
        raise http_error_for(failure) from failure
