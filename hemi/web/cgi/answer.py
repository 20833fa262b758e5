"""The head of what a CGI program answers, taken apart (RFC 3875 §6). No sockets in here.

Lines end with LF or CR LF, and an empty one ends the head. Programs may send a status line in front (uwsgi servers do,
and scripts written for "nph"). How the content is framed on the client's connection is never theirs to say; a
Content-Length is a promise about the content, and is held against them.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from hemi.web.fields import is_token
from hemi.web.proxy.names import CONNECTION, FRAMING

__all__ = ["BadReply", "CGIHead", "HeadReader"]

MAX_FIELDS = 500

_END = re.compile(rb"\r?\n\r?\n")
_LINE = re.compile(rb"HTTP/[0-9](?:\.[0-9])? ([1-9][0-9]{2})(?: .*)?")
_STATUS = re.compile(rb"([1-9][0-9]{2})(?:[ \t].*)?")
_BAD = re.compile(rb"[\x00-\x08\x0a-\x1f\x7f]")
_DROPPED = CONNECTION | FRAMING | {b"trailer"}


class BadReply(Exception):
    """What came is no CGI answer."""


class CGIHead(NamedTuple):
    """A head. `fields` are in lower case, without those that became attributes; `size` is the promised size of the
    content, -1 without a promise. `target` is where a local redirect leads (RFC 3875 §6.2.2), "" for none."""

    status: int
    content_type: str
    size: int
    fields: tuple[tuple[bytes, bytes], ...]
    target: str = ""

    def get(self, name: bytes) -> bytes | None:
        """The value of a field, the first one if there are several."""
        for key, value in self.fields:
            if key == name:
                return value
        return None


class HeadReader:
    """Collects a head as it arrives. `rest` is what came behind it."""

    __slots__ = ("_data", "max_head", "rest")

    def __init__(self, max_head: int = 65536) -> None:
        self.max_head = max_head
        self.rest = b""
        self._data = b""

    def feed(self, data: bytes) -> CGIHead | None:
        """Takes what has arrived; the head when it is complete. Raises BadReply."""
        start = max(0, len(self._data) - 3)
        data = self._data + data if self._data else data
        if data[:1] in (b"\n", b"\r"):
            raise BadReply("its head is empty")
        end = _END.search(data, start)
        if (end.start() if end is not None else len(data)) > self.max_head:
            raise BadReply(f"its head is larger than {self.max_head} bytes")
        if end is None:
            self._data = data
            return None
        self._data = b""
        self.rest = data[end.end() :]
        return parse_head(data[: end.start()])

    @property
    def begun(self) -> bytes:
        """What has come of a head that is not complete."""
        return self._data


def parse_head(block: bytes) -> CGIHead:
    """The head in a block of lines, without the empty one. Raises BadReply."""
    lines = block.split(b"\n")
    if len(lines) > MAX_FIELDS:
        raise BadReply(f"it has more than {MAX_FIELDS} fields")
    status, size = 0, -1
    content_type = location = None
    fields: list[tuple[bytes, bytes]] = []
    match = _LINE.fullmatch(lines[0].rstrip(b"\r"))
    if match is not None:
        status = int(match[1])
        del lines[0]
    for line in lines:
        name, value = _parse_line(line)
        if name == b"status":
            status = _parse_status(value)
        elif name == b"content-type":
            content_type = value if content_type is None else content_type
        elif name == b"content-length":
            size = _parse_size(value, size)
        elif name not in _DROPPED:
            if name == b"location":
                location = value
            fields.append((name, value))
    if status and not 200 <= status <= 599:
        raise BadReply(f"it has the status {status}")
    target = ""
    if location is not None and not status:
        status = 302
        if location[:1] == b"/" and location[1:2] not in (b"/", b"\\"):
            target = location.decode("latin-1")
    text = content_type.decode("latin-1") if content_type is not None else ""
    return CGIHead(status or 200, text, size, tuple(fields), target)


def _parse_line(line: bytes) -> tuple[bytes, bytes]:
    if line[-1:] == b"\r":
        line = line[:-1]
    name, colon, value = line.partition(b":")
    if not colon or not is_token(name):
        raise BadReply(f"it has a line that is no field: {line[:60]!r}")
    value = value.strip(b" \t")
    if _BAD.search(value) is not None:
        raise BadReply(f"the value of {name.decode()} has control characters: {value[:60]!r}")
    return name.lower(), value


def _parse_status(value: bytes) -> int:
    match = _STATUS.fullmatch(value)
    if match is None:
        raise BadReply(f"it has the Status {value[:60]!r}")
    return int(match[1])


def _parse_size(value: bytes, before: int) -> int:
    if not value.isdigit() or len(value) > 18 or before not in (-1, int(value)):
        raise BadReply(f"it has the Content-Length {value[:60]!r}")
    return int(value)
