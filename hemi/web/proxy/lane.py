"""The short way through a proxy, for what nearly all exchanges are: a request without content on a kept connection, and
an answer that comes at once, under a head that was seen before.

Whatever is not so goes the long way (`Forward`, or a gateway's exchange), from wherever it turns out: nothing is
decided here, and nothing done that is done otherwise there. An exchange of this way costs half of the calls.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from time import monotonic
from typing import TYPE_CHECKING, Any, NamedTuple

from hemi.web.proxy.forward import Forward
from hemi.web.proxy.responses import Begun
from hemi.web.statuses import NO_CONTENT

if TYPE_CHECKING:
    from hemi.web.proxy.backend import WebBackend
    from hemi.web.proxy.forward import Terms
    from hemi.web.proxy.responses import Prepared
    from hemi.web.request import Request
    from hemi.web.response import Response

__all__ = ["Answer", "HTTPLane", "Lane"]

KNOWN_ANSWERS = 1024
KNOWN_SIZE = 2048
"""How many heads of answers a lane remembers, and how large ones in bytes."""

RECV_SIZE = 65536


class Answer(NamedTuple):
    """What a head of a node comes to. `size` is that of its content in bytes, -1 when it says nothing about it."""

    size: int
    keep_alive: bool
    prepared: Prepared


class Lane:
    """The short way for the exchanges of one handlet. Protocols say how answers are taken apart, and what the long way
    is."""

    __slots__ = ("_answers", "_backend", "_farewell", "_head_timeout")

    def __init__(self, backend: WebBackend, head_timeout: float, farewell: bytes = b"") -> None:
        self._backend = backend
        self._head_timeout = head_timeout
        self._farewell = farewell
        self._answers: dict[bytes, Answer] = {}

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self._backend.name} answers={len(self._answers)}>"

    def go(self, req: Request, resp: Response, head: bytes) -> bool:
        """Asks a node, and answers the client; False when nothing has been done, as the choice of a node takes care.

        Raises HTTPError for what becomes an error page, ClientGone.
        """
        backend = self._backend
        roster = backend.roster
        ready = roster.ready
        if not ready or roster.careful:
            return False
        node: Any = ready[0] if len(ready) == 1 else roster.balancer.pick(ready, req)
        taken = monotonic()
        node.in_flight += 1
        node.leases += 1
        conn = node.pool.take(taken)
        if conn is None:
            self._take_up(req, resp, head, Begun(node, None, taken, b"", None))
            return True
        conn.req = req
        conn.farewell = self._farewell
        channel = conn.channel
        channel.deadline = taken + self._head_timeout
        exchanges = backend.exchanges
        exchanges.add(conn)
        data, failure = b"", None
        try:
            data = channel.ask(head, RECV_SIZE)
        except OSError as error:
            failure = error
        except BaseException:
            node.in_flight -= 1
            conn.close()
            raise
        finally:
            exchanges.discard(conn)
            conn.req = None
        found = None if conn.gone else self._digest(data, req)
        if found is None:
            self._take_up(req, resp, head, Begun(node, conn, taken, data, failure))
            return True
        prepared, content, keep = found
        now = monotonic()
        backend.note_answer(node, prepared.status, now - taken, now)
        channel.deadline = math.inf
        node.in_flight -= 1
        if keep and not node.gone:
            node.pool.give_back(conn, now)
        else:
            conn.close()
        if roster.queue:
            roster.serve_queue()
        prepared.fill(resp)
        resp.deliver(content)
        return True

    @abstractmethod
    def _digest(self, data: bytes, req: Request) -> tuple[Prepared, bytes, bool] | None:
        """Head and content of an answer that is whole, and whether the connection stays; None for any other."""

    @abstractmethod
    def _take_up(self, req: Request, resp: Response, head: bytes, begun: Begun) -> None:
        """Goes on, the long way."""

    def _remember(self, block: bytes, answer: Answer) -> None:
        if len(block) > KNOWN_SIZE:
            return
        if len(self._answers) >= KNOWN_ANSWERS:
            self._answers.clear()
        self._answers[block] = answer


class HTTPLane(Lane):
    """The short way over HTTP/1."""

    __slots__ = ("_is_open", "_proxy")

    def __init__(self, proxy: Terms) -> None:
        super().__init__(proxy.to_backend, proxy.head_timeout)
        self._proxy = proxy
        self._is_open = (
            proxy.to_backend.version == "1.1"  # connections to oneself
            and proxy.mirror_to is None
            and not proxy.to_backend.sticky_secret
            and not proxy.total_timeout
        )

    def run(self, req: Request, resp: Response) -> None:
        """Does it all. Raises HTTPError for what becomes an error page, ClientGone."""
        proxy = self._proxy
        if (
            self._is_open
            and not req.content_size
            and b"upgrade" not in req.index
            and self.go(req, resp, proxy.request_head.make(req))
        ):
            if proxy.budget.left < proxy.budget.spare:
                proxy.budget.earn()
        else:
            Forward(proxy, req, resp).run()

    def _digest(self, data: bytes, req: Request) -> tuple[Prepared, bytes, bool] | None:
        at = data.find(b"\r\n\r\n") + 4
        answer = self._answers.get(data[:at])
        if answer is None or len(data) - at != answer.size or req.method == "HEAD":
            return None
        return answer.prepared, data[at:], answer.keep_alive

    def _take_up(self, req: Request, resp: Response, head: bytes, begun: Begun) -> None:
        Forward(self._proxy, req, resp).take_up(head, begun)
        self._learn(begun.data)

    def _learn(self, data: bytes) -> None:
        """Remembers a head that the long way knows by now, if there is nothing special about it."""
        block = data[: data.find(b"\r\n\r\n") + 4]
        proxy = self._proxy
        head = proxy.to_backend.known_heads.get(block)
        if (
            head is None
            or head.size < 0
            or head.status in NO_CONTENT
            or head.status in proxy.retries.statuses
        ):
            return
        prepared = proxy.response_head.constant(head)
        if prepared is not None:
            self._remember(block, Answer(head.size, head.keep_alive, prepared))
