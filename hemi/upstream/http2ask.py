"""One request to a node over a connection of its own, by HTTP/2: what health checks need, and no more (RFC 9113)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import (
    ConnectionTerminated,
    DataReceived,
    ResponseReceived,
    StreamEnded,
    StreamReset,
    TrailersReceived,
)
from h2.exceptions import H2Error

if TYPE_CHECKING:
    from hemi.upstream.dial import Dialed

__all__ = ["Answer", "NotHTTP2", "ask"]

STREAM = 1


class NotHTTP2(Exception):
    """What came is no answer by HTTP/2."""


class Answer:
    """A response: its status, the beginning of its content, and its fields, those behind the content too."""

    __slots__ = ("content", "fields", "status")

    def __init__(self) -> None:
        self.status = 0
        self.content = b""
        self.fields: dict[bytes, bytes] = {}


def ask(
    channel: Dialed, fields: list[tuple[bytes, bytes]], content: bytes = b"", *, whole: bool, most: int
) -> Answer:
    """Asks, and returns the answer: its head, or all of it when wanted `whole`; of its content up to `most` bytes.

    Raises NotHTTP2, OSError.
    """
    h2 = H2Connection(H2Configuration(client_side=True, header_encoding=None))
    answer = Answer()
    try:
        h2.initiate_connection()
        h2.send_headers(STREAM, fields, not content)
        if content:
            h2.send_data(STREAM, content, True)
        channel.send(h2.data_to_send())
        total = 0
        while True:
            data = channel.recv(16384)
            total += len(data)
            if not data:
                raise NotHTTP2("it closed the connection without an answer")
            if total == len(data) and data.startswith(b"HTTP/"):
                raise NotHTTP2("it speaks HTTP/1")
            for event in h2.receive_data(data):
                if _take(h2, answer, event, most) or (answer.status and not whole):
                    return answer
            if total > 2 * most:
                if answer.status:
                    return answer
                raise NotHTTP2(f"it sends more than {2 * most} bytes before its answer")
            channel.send(h2.data_to_send())
    except H2Error as error:
        raise NotHTTP2(f"it breaks the rules of HTTP/2: {str(error) or type(error).__name__}") from None


def _take(h2: H2Connection, answer: Answer, event: Any, most: int) -> bool:
    """Takes what came; True at the end of the response."""
    kind = type(event)
    if kind is ResponseReceived:
        answer.fields.update(event.headers)
        answer.status = int(answer.fields[b":status"])
    elif kind is DataReceived:
        answer.content = (answer.content + event.data)[:most]
        h2.acknowledge_received_data(event.flow_controlled_length, STREAM)
    elif kind is TrailersReceived:
        answer.fields.update(event.headers)
    elif kind is StreamReset:
        raise NotHTTP2("it reset the stream")
    elif kind is ConnectionTerminated:
        raise NotHTTP2("it ended the connection")
    return kind is StreamEnded
