"""The heads of messages between a proxy and a node that speaks HTTP/2 (RFC 9113 §8). No sockets in here.

A proxy makes the head of a request in the form of HTTP/1, whatever the node speaks: which connection it gets, and so
which version, is found out afterwards, and may change from one try to the next. Here it becomes a list of fields.
Responses become the `Head` that those of HTTP/1 are, too.
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Sequence
from typing import NamedTuple

from hpack import NeverIndexedHeaderTuple

from hemi.web.h1.answer import CHUNKED, BadAnswer, Head

__all__ = ["RequestFields", "check_fields", "request_fields", "response_head", "switching_head"]

Fields = list[tuple[bytes, bytes]]

MAX_FIELDS = 500

_OF_CONNECTIONS = frozenset(
    {b"connection", b"keep-alive", b"proxy-connection", b"transfer-encoding", b"upgrade", b"http2-settings"}
)
"""What makes a message malformed (§8.2.2)."""

_SECRET = frozenset({b"authorization", b"proxy-authorization"})
_NAME = re.compile(rb"[!#$%&'*+.^_`|~0-9a-z-]+")
_VALUE = re.compile(rb"[\t\x20-\x7e\x80-\xff]*")
_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"


class RequestFields(NamedTuple):
    """The fields of a request. `protocol` is what an extended CONNECT asks for (RFC 8441), b"" for other requests;
    `accept` is what a client of HTTP/1 then expects in Sec-WebSocket-Accept."""

    fields: Fields
    protocol: bytes
    accept: bytes


def request_fields(head: bytes, scheme: bytes) -> RequestFields:
    """The fields that say what a head of HTTP/1 says, which was made here."""
    line, *lines = head[:-4].split(b"\r\n")
    method, target, _ = line.split(b" ", 2)
    fields: Fields = []
    authority = protocol = key = b""
    for one in lines:
        name, _, value = one.partition(b": ")
        if name == b"host":
            authority = value
        elif name == b"upgrade":
            protocol = value.partition(b",")[0].strip().lower()
        elif name in _SECRET:
            fields.append(NeverIndexedHeaderTuple(name, value))
        elif name not in _OF_CONNECTIONS:
            fields.append((name, value))
    first = [(b":method", method), (b":scheme", scheme), (b":path", target)]
    accept = b""
    if protocol:
        first[0] = (b":method", b"CONNECT")
        first.insert(1, (b":protocol", protocol))
        key = next((value for name, value in fields if name == b"sec-websocket-key"), b"")
        if key:
            fields = [field for field in fields if field[0] != b"sec-websocket-key"]
            accept = base64.b64encode(hashlib.sha1(key + _GUID, usedforsecurity=False).digest())
    if authority:
        first.append((b":authority", authority))
    return RequestFields(first + fields, protocol, accept)


def check_fields(fields: Sequence[tuple[bytes, bytes]], most: int) -> None:
    """Raises BadAnswer for fields that no message may have, and for more than `most` bytes of them (§8.2, §10.5.1)."""
    if len(fields) > MAX_FIELDS:
        raise BadAnswer(f"it has more than {MAX_FIELDS} fields")
    size = 0
    for name, value in fields:
        size += len(name) + len(value) + 32
        if _NAME.fullmatch(name) is None:
            raise BadAnswer(f"it has a field of the name {name[:40]!r}")
        if _VALUE.fullmatch(value) is None:
            raise BadAnswer(f"its field {name[:40]!r} has control characters")
        if name in _OF_CONNECTIONS:
            raise BadAnswer(f"it has the field {name!r}, which HTTP/2 does not have")
    if size > most:
        raise BadAnswer(f"its head is larger than {most} bytes")


def response_head(block: Sequence[tuple[bytes, bytes]], ended: bool, most: int) -> Head:
    """The head of a response, or an interim one. `ended` says that nothing follows it. Raises BadAnswer."""
    if not block or block[0][0] != b":status":
        raise BadAnswer("it has no status")
    text = block[0][1]
    if len(text) != 3 or not text.isdigit() or not 100 <= int(text) <= 599:
        raise BadAnswer(f"it has the status {text[:20]!r}")
    status = int(text)
    if status == 101:
        raise BadAnswer("it has the status 101, which HTTP/2 does not have")
    fields = tuple([(name, value.strip(b" \t")) for name, value in block[1:]])
    check_fields(fields, most)
    lengths = [value for name, value in fields if name == b"content-length"]
    if lengths and (len(set(lengths)) > 1 or not lengths[0].isdigit() or len(lengths[0]) > 18):
        raise BadAnswer(f"it has the Content-Length {b', '.join(lengths)[:60]!r}")
    size = int(lengths[0]) if lengths else 0 if ended else CHUNKED
    return Head(status, fields, size, _NONE, True)


_NONE: frozenset[bytes] = frozenset()


def switching_head(head: Head, request: RequestFields) -> Head:
    """What a client of HTTP/1 would have got in place of the answer to an extended CONNECT (RFC 8441 §5)."""
    fields = [field for field in head.fields if field[0] != b"content-length"]
    fields += [(b"connection", b"upgrade"), (b"upgrade", request.protocol)]
    if request.accept:
        fields.append((b"sec-websocket-accept", request.accept))
    return Head(101, tuple(fields), 0, frozenset({b"upgrade"}), True)
