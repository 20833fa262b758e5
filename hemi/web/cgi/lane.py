"""The short way of FastCGI: see `hemi.web.proxy.lane`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hemi.library import fcgi
from hemi.web.cgi.answer import BadReply, HeadReader
from hemi.web.cgi.gateway import Exchange
from hemi.web.cgi.reply import is_special
from hemi.web.proxy.lane import Answer, Lane
from hemi.web.proxy.responses import Begun, Prepared
from hemi.web.statuses import NO_CONTENT

if TYPE_CHECKING:
    from hemi.web.cgi.gateway import Gateway
    from hemi.web.cgi.variables import Script
    from hemi.web.request import Request
    from hemi.web.response import Response

__all__ = ["FCGILane"]


class FCGILane(Lane):
    """The short way over FastCGI, on connections that nodes leave open."""

    __slots__ = ("_gateway", "_is_open")

    def __init__(self, gateway: Gateway) -> None:
        super().__init__(gateway.backend, gateway.head_timeout, fcgi.ABORT)
        self._gateway = gateway
        self._is_open = gateway.keeps_conns and not (
            gateway.backend.sticky_secret or gateway.total_timeout or gateway.ignore_client_abort
        )

    def run(self, req: Request, resp: Response, script: Script) -> None:
        """Does it all. Raises HTTPError for what becomes an error page, ClientGone, SearchAgain."""
        gateway = self._gateway
        if not self._is_open or req.content_size:
            Exchange(gateway, req, resp).run(script)
            return
        head = gateway.make_head(req, script, 0) + fcgi.END_OF_CONTENT
        if not self.go(req, resp, head):
            Exchange(gateway, req, resp).run(script)

    def _digest(self, data: bytes, req: Request) -> tuple[Prepared, bytes, bool] | None:
        place = fcgi.whole(data)
        if place is None:
            return None
        start, end = place
        at = data.find(b"\r\n\r\n", start, end) + 4
        block = data[start:at]
        answer = self._answers.get(block) or self._learn(block)
        if answer is None or req.method == "HEAD" or answer.size not in (-1, end - at):
            return None
        return answer.prepared, data[at:end], answer.keep_alive

    def _learn(self, block: bytes) -> Answer | None:
        """Remembers a head if there is nothing special about it; what is wrong with others, the long way says."""
        reader = HeadReader(self._gateway.backend.max_head_size)
        try:
            head = reader.feed(block)
        except BadReply:
            return None
        if head is None or reader.rest or head.target or head.status in NO_CONTENT:
            return None
        fields = head.fields
        names = frozenset(name for name, _ in fields)
        if any(is_special(name) for name in names):
            return None
        prepared = Prepared(
            head.status,
            head.content_type,
            fields,
            b"".join([b"%b: %b\r\n" % field for field in fields]),
            (),
            b"date" in names,
            b"server" in names,
        )
        answer = Answer(head.size, True, prepared)
        self._remember(block, answer)
        return answer

    def _take_up(self, req: Request, resp: Response, head: bytes, begun: Begun) -> None:
        Exchange(self._gateway, req, resp).take_up(head[: -len(fcgi.END_OF_CONTENT)], begun)
