"""Sending open files: whole, one range, several ranges (RFC 9110 §14), and through filters."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from hemi.web.errors import HTTPError
from hemi.web.preconditions import if_range_holds
from hemi.web.ranges import Range, content_range, lay_out, parse_ranges

if TYPE_CHECKING:
    from hemi.web.response import Response

PIECE = 262144
"""Bytes that are read at once from a file that filters change."""


def send_ranges(resp: Response, file: int | bytes, size: int) -> None:
    """Sends `size` bytes of the file (a descriptor, or the whole content), or what the Range field asks of them.

    Raises HTTPError 416.
    """
    resp.fields.append((b"accept-ranges", b"bytes"))
    if resp.status == 304:
        resp.send_unchanged(size)
        return
    ranges = _wanted(resp, size) if resp.status == 200 and b"range" in resp.request.index else None
    if ranges is None:
        _send_part(resp, file, Range(0, size))
    elif not ranges:
        raise HTTPError(416, headers=(("content-range", content_range(None, size).decode()),))
    elif len(ranges) == 1:
        resp.status = 206
        resp.fields.append((b"content-range", content_range(ranges[0], size)))
        _send_part(resp, file, ranges[0])
    else:
        _send_parts(resp, file, ranges, size)


def _wanted(resp: Response, size: int) -> list[Range] | None:
    request = resp.request
    if request.method != "GET" or not if_range_holds(request.index, resp.etag, resp.last_modified):
        return None
    return parse_ranges(request.index[b"range"], size)


def _send_part(resp: Response, file: int | bytes, part: Range) -> None:
    resp.content_size = part.size
    resp.etag = resp.last_modified = None  # their fields are set and their conditions answered
    if isinstance(file, bytes):
        resp.send(file[part.start : part.stop])
        return
    resp.begin()
    if resp.request.method == "HEAD":
        resp.finish()
    elif resp.content_size >= 0:
        resp.stream.send_file(file, part.start, part.size, last=True)
    else:
        _echo_part(resp, file, part)
        resp.finish()


def _echo_part(resp: Response, file: int | bytes, part: Range) -> None:
    """Sends a part of the file through the filters."""
    if isinstance(file, bytes):
        resp.echo(file[part.start : part.stop])
        return
    at = part.start
    while at < part.stop:
        data = os.pread(file, min(PIECE, part.stop - at), at)
        if not data:
            raise EOFError("the file became shorter while it was sent")
        at += len(data)
        resp.echo(data)


def _send_parts(resp: Response, file: int | bytes, ranges: list[Range], size: int) -> None:
    layout = lay_out(ranges, size, resp.content_type.encode("latin-1"))
    resp.status = 206
    resp.content_type = layout.content_type.decode()
    resp.content_size = layout.size
    resp.etag = resp.last_modified = None
    resp.begin()
    filtered = resp.content_size < 0
    for head, part in layout.parts:
        resp.echo(head)
        if filtered or isinstance(file, bytes):
            _echo_part(resp, file, part)
        else:
            resp.stream.send_file(file, part.start, part.size)
    resp.echo(layout.tail)
    resp.finish()
