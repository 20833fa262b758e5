"""The contents of an exchange on their way: the request's to the node, the answer's to the client.

Both go as they come, whoever is faster waits for the other. Where nothing looks at them, both sockets are plain, and
the size is known, the kernel moves them (hemi.web.proxy.bulk).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import closing
from functools import partial
from time import monotonic
from typing import TYPE_CHECKING, Any

from gevent.event import Event

from hemi.web.h1.answer import BadAnswer
from hemi.web.proxy.bulk import LEAST, Pipe
from hemi.web.proxy.names import passable_trailers
from hemi.web.proxy.spool import Spool

if TYPE_CHECKING:
    from hemi.web.h1.backend import Backend1Stream
    from hemi.web.proxy.forward import Forward

__all__ = ["REPLAYABLE", "Download", "Upload"]

REPLAYABLE = 65536
"""Contents up to this size are taken into memory before a node is asked, and can be sent again."""

CONTINUE_PATIENCE = 1.0
"""Seconds to wait for a node's 100 before the content is sent without it (RFC 9110 §10.1.1)."""


class BrokenNode(Exception):
    """The node takes no more: who waits for its answer learns by itself, or gets one that came early."""


class Upload:
    """Sends the content of a request in a second greenlet, while the exchange waits for the answer, which may come
    before the content has ended (RFC 9112 §9.3). `proceed` is set when the node wants the content, `trouble` is what
    went wrong with the client, `passed` what was sent, as long as it is small."""

    def __init__(self, forward: Forward) -> None:
        self._forward = forward
        self.proceed = Event()
        self.trouble: Exception | None = None
        self.passed: list[bytes] | None = []

    def __repr__(self) -> str:
        return f"<Upload {self._forward.req!r} trouble={self.trouble!r}>"

    def run(self, stream: Backend1Stream) -> None:
        """Passes the content on as it arrives."""
        forward = self._forward
        try:
            if forward.expects:
                self.proceed.wait(CONTINUE_PATIENCE)
            for data in self._pieces():
                _send(stream, data)
                self._move(stream)
        except BrokenNode:
            return
        except Exception as error:
            self.trouble = error
            stream.channel.cut(monotonic())
            return
        try:
            stream.finish(passable_trailers(forward.req.trailer_fields or ()))
        except OSError:
            return
        forward.begin_to_wait(stream)

    def _pieces(self) -> Iterator[bytes]:
        """The content as it arrives, what has arrived already first."""
        req = self._forward.req
        before = list(self.passed or ())
        size = sum(map(len, before))
        yield from before
        while data := req.receive():
            size += len(data)
            if size > REPLAYABLE:
                self.passed = None
            elif self.passed is not None:
                self.passed.append(data)
            yield data

    def _move(self, stream: Backend1Stream) -> None:
        """Has the kernel pass on what it can of what is still to come."""
        req = self._forward.req
        fill = getattr(req.stream, "fill", None)
        if fill is None or self._forward.size < LEAST or not getattr(stream, "is_bare", False):
            return
        pipe = Pipe.between(stream.channel)
        if pipe is None:
            return
        with closing(pipe):
            while size := fill(pipe, LEAST):
                self.passed = None
                req.received += size
                try:
                    pipe.empty(stream.channel)
                except OSError as error:
                    raise BrokenNode from error

    def run_spool(self, stream: Backend1Stream, spool: Spool) -> None:
        """Sends a content that was buffered: the node may answer while it reads."""
        forward = self._forward
        try:
            if forward.content is not None:
                stream.send_whole(forward.head, forward.content)
            elif forward.size < 0:
                stream.send_head(forward.head)
                for data in spool:
                    stream.send_data(data)
                stream.finish(passable_trailers(forward.req.trailer_fields or ()))
            else:
                stream.send_file(forward.head, spool.file, forward.size)
        except OSError:
            return
        forward.begin_to_wait(stream)


def _send(stream: Backend1Stream, data: bytes) -> None:
    try:
        stream.send_data(data)
    except OSError as error:
        raise BrokenNode from error


class Download:
    """Passes the content of an answer on. `spool` has a buffered one."""

    def __init__(self, forward: Forward) -> None:
        self._forward = forward
        self._stream = forward.stream
        self._resp = forward.resp
        self.spool: Spool | None = None

    def __repr__(self) -> str:
        return f"<Download {self._stream!r} spool={self.spool!r}>"

    def relay(self) -> None:
        """Passes the content on as it comes; the node waits for the client, if it is faster."""
        stream, resp = self._stream, self._resp
        if not stream.has_content:
            resp.stream.flush()
        send = resp.echo if resp.has_filters else resp.stream.send_data
        while not stream.complete:
            if not resp.has_filters and getattr(stream, "promised", 0) >= LEAST and self._move():
                break
            data = self._take(stream.read)
            if data:
                send(data)
        self._finish(stream.trailers)

    def _move(self) -> bool:
        """Has the kernel pass the rest of the content on; False where that cannot be."""
        stream, front = self._stream, self._resp.stream
        lend = getattr(front, "lend", None)
        target: Any = lend() if lend is not None else None
        pipe = Pipe.between(stream.channel, target) if target is not None else None
        if pipe is None:
            return False
        with closing(pipe):
            while not stream.complete:
                size = self._take(partial(stream.fill, pipe))
                try:
                    pipe.empty(target)
                except OSError as error:
                    raise front.lost(error) from error  # type: ignore[attr-defined]
                front.lent(size)  # type: ignore[attr-defined]
        return True

    def _take(self, read: Callable[[], Any]) -> Any:
        """Takes more of the content, within the time for it. Raises UpstreamError."""
        forward, channel = self._forward, self._stream.channel
        channel.deadline = min(forward.deadline, monotonic() + forward.proxy.read_timeout)
        try:
            got = read()
        except (OSError, BadAnswer) as error:
            raise forward.lost_node("content", error) from error
        channel.deadline = math.inf
        return got

    def buffer(self, size: int) -> None:
        """Takes the whole content from the node before the client gets it: a slow client does not hold the node."""
        stream, resp, proxy = self._stream, self._resp, self._forward.proxy
        spool = self.spool = Spool(proxy.buffer_memory, proxy.stage.dirs.tmp)
        while not stream.complete and spool.size < proxy.max_buffer_size:
            data = self._take(stream.read)
            try:
                spool.write(data)
            except OSError as error:
                self._forward.warn(f"its answer cannot be buffered, and is passed on as it comes: {error}")
                break
        trailers = stream.trailers
        if stream.complete:
            self._forward.release()
            size = -1 if trailers else spool.size
            content = spool.content
            if content is not None and not trailers:
                resp.deliver(content)
                return
        resp.content_size = max(size, -1)
        resp.open()
        if spool.file >= 0 and not resp.has_filters and stream.complete:
            resp.stream.send_file(spool.file, 0, spool.size)
            self._finish(trailers)
            return
        for data in spool:
            resp.echo(data)
        if stream.complete:
            self._finish(trailers)
        else:
            self.relay()

    def _finish(self, trailers: list[tuple[bytes, bytes]]) -> None:
        if self._forward.lease.node is not None:
            self._forward.release()
        if trailers:
            self._resp.trailer_fields = passable_trailers(trailers)
        self._resp.finish()

    def close(self) -> None:
        """Frees what it has. Idempotent."""
        if self.spool is not None:
            self.spool.close()
