"""A stream as a channel: what an extended CONNECT is carried by once it was accepted (RFC 8441 §5, RFC 9113 §8.5).

It has the verbs of `hemi.sockets.Channel` that tunnels use, so that a WebSocket or a proxy needs not know which version
of HTTP is below. END_STREAM is the end of a direction, as FIN is that of a socket's; a reset is a reset.
"""

from __future__ import annotations

import errno
import math
from time import monotonic
from typing import TYPE_CHECKING

from hemi.sockets import DeadlinePassed
from hemi.web.errors import ClientGone
from hemi.web.h2.errors import CANCEL, CONNECT_ERROR

if TYPE_CHECKING:
    from hemi.tls import TLSInfo
    from hemi.web.h2.stream import Server2Stream


class TunnelChannel:
    """One greenlet at a time reads, one writes. `deadline` (monotonic seconds) holds for the read that waits now; what
    is sent must be taken within the server's `write_timeout`."""

    __slots__ = ("_closed", "_stream", "least_taken", "tls", "write_timeout")

    def __init__(self, stream: Server2Stream) -> None:
        self._stream = stream
        self._closed = False
        self.tls: TLSInfo | None = stream.conn.tls
        self.write_timeout = float(stream.server.write_timeout)
        self.least_taken = 1

    def __repr__(self) -> str:
        return f"<TunnelChannel {'closed' if self._closed else 'open'} {self._stream!r}>"

    @property
    def deadline(self) -> float:
        """Until when a read may wait."""
        content = self._stream.content
        return content.deadline if content is not None else math.inf

    @deadline.setter
    def deadline(self, value: float) -> None:
        content = self._stream.content
        if content is not None:
            content.deadline = value
            if self._stream.conn is not None:
                self._stream.conn.watch(value)

    @property
    def late(self) -> bool:
        """A deadline has passed while somebody waited."""
        content = self._stream.content
        return content is not None and content.late

    @property
    def writing(self) -> bool:
        """Somebody waits for the peer to take something."""
        return self._stream.waiter is not None

    def recv(self, size: int) -> bytes:
        """Returns 1 to `size` bytes, b"" at the end. Raises DeadlinePassed, OSError."""
        stream = self._stream
        content = stream.content
        if self._closed or content is None:
            raise ConnectionAbortedError(errno.ECONNABORTED, "the channel is closed")
        while not content.chunks:
            if stream.gone >= 0:
                raise ConnectionResetError(errno.ECONNRESET, "the stream has been reset")
            if content.complete:
                return b""
            if content.late:
                raise DeadlinePassed("the deadline for reading has passed")
            stream.starve()
            content.wait(content.deadline)
        return content.take(size)

    recv_waiting = recv

    def send(self, data: bytes) -> None:
        """Sends all of `data`; blocks while the peer does not keep up. Raises OSError."""
        stream = self._stream
        if self._closed or not stream.open:
            raise BrokenPipeError(errno.EPIPE, "the channel is closed for sending")
        try:
            stream.send_tunnel(data, False)
        except ClientGone as error:
            raise BrokenPipeError(errno.EPIPE, str(error)) from error

    def send_pieces(self, pieces: list[bytes]) -> None:
        """Sends the pieces one after another."""
        self.send(b"".join(pieces))

    def shutdown_write(self) -> None:
        """Says that no more will be sent; reading goes on."""
        stream = self._stream
        if stream.open and stream.gone < 0 and stream.conn is not None:
            try:
                stream.send_tunnel(b"", True)
            except ClientGone:
                pass

    def cut(self, now: float) -> None:
        """Ends the wait of whoever waits on the channel."""
        stream = self._stream
        content = stream.content
        if content is not None:
            content.late = True
            content.deadline = math.inf
        if stream.waiter is not None and stream.conn is not None:
            stream.conn.reset(stream, CANCEL)
        stream.wake()

    def close(self) -> None:
        """Ends both directions. Idempotent."""
        if not self._closed:
            self.shutdown_write()
            self._closed = True
            if self._stream.content is not None:
                self._stream.wake()

    def reset(self) -> None:
        """Ends with a reset, so that the peer cannot take a message that was cut for a whole one."""
        self._closed = True
        stream = self._stream
        if stream.conn is not None and stream.gone < 0:
            stream.conn.reset(stream, CONNECT_ERROR)

    def linger(self, seconds: float) -> None:
        """Ends sending, and waits up to `seconds` seconds for the peer's end; what still comes is dropped."""
        self.shutdown_write()
        content = self._stream.content
        if content is not None:
            content.late = False
            self.deadline = monotonic() + seconds
            try:
                while self.recv(65536):
                    pass
            except OSError:
                pass
