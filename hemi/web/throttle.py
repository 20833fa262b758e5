"""Responses at a limited rate: a stream around the stream, which lets the content pass in pieces, each in its time.

It stands where the response meets its stream, behind revisers and whatever a handlet does, so that the length of the
content stays known and files still go out by sendfile(2). Several streams may share a bucket: what one of them takes,
the others wait for, piece by piece in turn.
"""

from __future__ import annotations

from time import monotonic
from typing import TYPE_CHECKING, Any

from gevent import sleep

from hemi.library.tokenbucket import TokenBuckets
from hemi.web.statuses import NO_CONTENT

if TYPE_CHECKING:
    from hemi.web.response import Response
    from hemi.web.stream import ServerStream

LEAST_PIECE = 1024
MOST_PIECE = 262144


class ThrottledStream:
    """A `ServerStream` whose content takes its tokens, one a byte, from the bucket of `key`."""

    __slots__ = ("_buckets", "_key", "_piece", "_quiet", "_stream")

    def __init__(self, stream: ServerStream, buckets: TokenBuckets, key: str) -> None:
        self._stream = stream
        self._buckets = buckets
        self._key = key
        self._piece = min(max(int(buckets.rate / 4), LEAST_PIECE), MOST_PIECE)  # bytes; four pieces a second
        self._quiet = False

    def __repr__(self) -> str:
        return f"<ThrottledStream {self._buckets.rate:g} bytes/s of {self._stream!r}>"

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    @property
    def keep_alive(self) -> bool:
        """Whether the connection may go on behind this exchange."""
        return self._stream.keep_alive

    @keep_alive.setter
    def keep_alive(self, value: bool) -> None:
        self._stream.keep_alive = value

    def _wait(self, size: int) -> None:
        """Takes the tokens for some bytes, and waits until they are there."""
        taken = self._buckets.take(self._key, monotonic(), size, max_wait=float("inf"))
        if taken.wait > 0:
            sleep(taken.wait)

    def _is_quiet(self, resp: Response) -> bool:
        return resp.request.method == "HEAD" or resp.status in NO_CONTENT

    def send_whole(self, resp: Response, content: bytes) -> None:
        """Sends head and content; small content at once, when it may go."""
        if self._is_quiet(resp) or not content:
            self._stream.send_whole(resp, content)
        elif len(content) <= self._piece:
            self._wait(len(content))
            self._stream.send_whole(resp, content)
        else:
            resp.content_size = len(content)
            self._stream.send_head(resp)
            self.send_data(content, last=True)

    def send_head(self, resp: Response) -> None:
        """Readies the head, which waits for nothing."""
        self._quiet = self._is_quiet(resp)
        self._stream.send_head(resp)

    def send_data(self, data: bytes, last: bool = False) -> None:
        """Sends a piece of the content, in as many pieces as the rate wants."""
        if self._quiet or not data:
            self._stream.send_data(data, last)
            return
        size, view = len(data), memoryview(data)
        for start in range(0, size, self._piece):
            piece = bytes(view[start : start + self._piece])
            self._wait(len(piece))
            self._stream.send_data(piece, last and start + len(piece) == size)

    def lend(self) -> None:
        """Content must not go past the limit."""

    def send_file(self, file: int, start: int, size: int, last: bool = False) -> None:
        """Sends a part of an open file, in as many pieces as the rate wants."""
        if self._quiet or not size:
            self._stream.send_file(file, start, size, last)
            return
        stop = start + size
        while start < stop:
            piece = min(self._piece, stop - start)
            self._wait(piece)
            start += piece
            self._stream.send_file(file, start - piece, piece, last and start == stop)
