"""The handlet `forward_auth`: asks another server whether a request may go on.

That server gets a GET without content. A 2xx lets the request go on to the next handlet or rule, with fields of the
answer copied into it; everything else is the answer to the client, such as a 401, or a redirection to a login page.
"""

from __future__ import annotations

from collections.abc import Iterator
from time import monotonic
from typing import TYPE_CHECKING, NamedTuple

from hemi.builtin.backends.http_backend import HTTPBackend
from hemi.component import prop
from hemi.upstream.errors import DialFailed, UpstreamError
from hemi.values import Duration, Ref, Size, Template
from hemi.web.errors import HTTPError
from hemi.web.fields import check_name
from hemi.web.h1.answer import BadAnswer, Head
from hemi.web.handlet import Handlet
from hemi.web.proxy.names import CONNECTION, FRAMING
from hemi.web.proxy.requests import sendable

if TYPE_CHECKING:
    from hemi.web.request import Request
    from hemi.web.response import Response

TRIES = 3


class Verdict(NamedTuple):
    """What the server said: whether the request may go on, and until when (monotonic seconds) that is known."""

    head: Head
    content: bytes
    until: float


class ForwardAuth(Handlet, sign="forward_auth"):
    """Lets another server decide which requests may go on."""

    to_backend: Ref[HTTPBackend] = prop(doc="The servers that decide.")
    auth_uri: Template = prop("/", "The path, with a query if need be, that is asked for.", inherit=False)
    send_fields: list[str] = prop(
        ["authorization", "cookie"], "Fields of the request that the servers get to see.", inherit=False
    )
    copy_fields: list[str] = prop(
        [],
        "Fields of a good answer that the request goes on with; what clients sent of them is dropped.",
        inherit=False,
    )
    auth_timeout: Duration = prop("5s", "How long the answer may take.", least="10ms", inherit=False)
    max_answer_size: Size = prop("64K", "The largest content of an answer.", inherit=False)
    cache_key: Template | None = prop(
        None,
        "What good answers are kept by, such as $header_authorization; none is kept when missing.",
        inherit=False,
    )
    cache_time: Duration = prop("10s", "How long good answers are kept.", inherit=False)
    max_cached: int = prop(10000, "How many are kept.", least=1, inherit=False)

    def check(self) -> Iterator[str | tuple[str, str]]:
        """Names must be names of fields that do not frame messages."""
        for name in ("send_fields", "copy_fields"):
            for field in getattr(self, name):
                try:
                    key = check_name(field).lower()
                except ValueError as error:
                    yield name, str(error)
                    continue
                if key in CONNECTION or key in FRAMING or key == b"host":
                    yield name, f'must not have "{field}", which says how messages are framed and sent'

    def prepare(self) -> None:
        """Readies the names."""
        self._sent = tuple(name.lower().encode() for name in self.send_fields)
        self._copied = tuple(name.lower() for name in self.copy_fields)
        self._known: dict[str, Verdict] = {}

    def handle(self, req: Request, resp: Response) -> bool:
        """Declines when the request may go on."""
        key = self.cache_key(req) if self.cache_key is not None else ""
        verdict = self._known.get(key) if key else None
        if verdict is None or verdict.until < monotonic():
            verdict = self._ask(req)
            if key and 200 <= verdict.head.status < 300:
                if len(self._known) >= self.max_cached:
                    self._known.clear()
                self._known[key] = verdict
        if 200 <= verdict.head.status < 300:
            self._pass_on(req, verdict.head)
            return False
        self._refuse(resp, verdict)
        return True

    def _pass_on(self, req: Request, head: Head) -> None:
        for name in self._copied:
            req.delete_header(name)
            req.delete_header(name.replace("-", "_"))  # which an app may take for the same
            for key, value in head.fields:
                if key == name.encode():
                    req.add_header(name, value.decode("latin-1"))

    def _refuse(self, resp: Response, verdict: Verdict) -> None:
        resp.status = verdict.head.status
        for name, value in verdict.head.fields:
            if name not in CONNECTION and name not in FRAMING and name not in verdict.head.options:
                resp.add_header(name.decode("latin-1"), value.decode("latin-1"))
        resp.deliver(verdict.content)

    def _request(self, req: Request) -> bytes:
        """The request that asks: nothing of it can be framed by the client."""
        lines = [b"%b: %b" % (name, req.index[name]) for name in self._sent if name in req.index]
        lines += [
            b"x-forwarded-method: " + req.method.encode(),
            b"x-forwarded-proto: " + req.scheme.encode(),
            b"x-forwarded-host: " + sendable(req.authority),
            b"x-forwarded-uri: " + sendable(req.uri()),
            b"x-forwarded-for: " + req.src_host.encode(),
        ]
        target = sendable(self.auth_uri(req)).replace(b" ", b"%20")
        host = sendable(req.authority)
        return b"GET %b HTTP/1.1\r\nhost: %b\r\n%b\r\n\r\n" % (target, host, b"\r\n".join(lines))

    def _ask(self, req: Request) -> Verdict:
        """Asks. Raises HTTPError when there is no answer: without one, nothing goes on."""
        deadline = monotonic() + self.auth_timeout
        lease = self.to_backend.lease(req, deadline)
        try:
            while True:
                try:
                    conn = lease.take()
                    stream = self.to_backend.open_stream(conn, "GET")
                    stream.channel.deadline = deadline
                    stream.send_whole(self._request(req))
                    head = stream.read_head()
                    while head.status < 200:
                        head = stream.read_head()
                    content = b""
                    while data := stream.read():
                        content += data
                        if len(content) > self.max_answer_size:
                            raise BadAnswer(f"its content is larger than {self.max_answer_size} bytes")
                except DialFailed:
                    if lease.tries >= TRIES:
                        raise
                    continue
                except (OSError, BadAnswer) as error:
                    failure = lease.fail("auth", error)
                    if lease.tries >= TRIES or isinstance(error, BadAnswer):
                        raise failure from error
                    continue
                lease.answered(head.status)
                lease.done(stream.end())
                return Verdict(head, content, monotonic() + self.cache_time)
        except UpstreamError as failure:
            failure = lease.reason(failure)
            self.stage.log.error("proxy", f"{failure}: nobody decides about {req.line()}")
            raise HTTPError(503, "Nobody can tell whether this is allowed.") from failure
        finally:
            lease.end()
