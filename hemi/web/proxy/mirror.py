"""Mirrors: copies of requests for another backend, whose answers nobody waits for."""

from __future__ import annotations

import random
from time import monotonic
from typing import TYPE_CHECKING, Any

import gevent

from hemi.upstream.errors import UpstreamError, reason_of
from hemi.web.h1.answer import BadAnswer

if TYPE_CHECKING:
    from hemi.upstream.backend import Backend

__all__ = ["Mirror"]

MOST = 128
"""How many copies may be on their way; beyond that, requests are not mirrored."""

MOST_CONTENT = 1 << 20
"""How much of an answer is read to keep the connection, in bytes."""


class Mirror:
    """Sends copies of a share of the requests. `lost` counts what could not be sent."""

    def __init__(self, backend: Any, share: float, timeout: float) -> None:
        self.backend: Backend = backend
        self.share = share
        self.timeout = timeout
        self.sent = 0
        self.lost = 0
        self._tasks: set[Any] = set()

    def __repr__(self) -> str:
        return f"<Mirror {self.backend.name} sent={self.sent} lost={self.lost}>"

    def offer(self, method: str, head: bytes, content: bytes) -> None:
        """Sends a copy, or not, as chance has it; never waits."""
        if self.share < 1 and random.random() >= self.share:
            return
        if len(self._tasks) >= MOST:
            self.lost += 1
            return
        task = gevent.spawn(self._send, method, head, content)
        self._tasks.add(task)
        task.link(self._tasks.discard)

    def _send(self, method: str, head: bytes, content: bytes) -> None:
        deadline = monotonic() + self.timeout
        lease = self.backend.lease(None, deadline)
        try:
            stream = self.backend.open_stream(lease.take(), method)  # type: ignore[attr-defined]
            stream.channel.deadline = deadline
            stream.send_whole(head, content)
            answer = stream.read_head()
            while answer.status < 200:
                answer = stream.read_head()
            lease.answered(answer.status)
            read = 0
            while read < MOST_CONTENT and (data := stream.read()):
                read += len(data)
            lease.done(stream.end())
            self.sent += 1
        except UpstreamError:
            self.lost += 1
        except (OSError, BadAnswer) as error:
            lease.fail("mirror", reason_of(error))
            self.lost += 1
        finally:
            lease.end()

    def stop(self) -> None:
        """Ends what is on its way."""
        gevent.killall(list(self._tasks), block=False)
