"""Byte ranges: the Range field, Content-Range, and multipart/byteranges (RFC 9110 §14).

Many overlapping ranges once let one small request ask for gigabytes (CVE-2011-3192). So a Range with too many
members is ignored, ranges that overlap or nearly touch become one, and a set that together would be
larger than the whole is answered with the whole.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Sequence
from typing import NamedTuple

MAX_RANGES = 16
"""The most ranges in one request unless told otherwise: more than a download manager asks for."""

PART_COST = 80
"""What a part costs in bytes: ranges closer than that are cheaper as one (RFC 9110 §14.2)."""

_SET = re.compile(rb"bytes[ \t]*=(.*)", re.IGNORECASE | re.DOTALL)
_SPEC = re.compile(rb"([0-9]*)[ \t]*-[ \t]*([0-9]*)")


class Range(NamedTuple):
    """Bytes `start` up to, but not including, `stop`."""

    start: int
    stop: int

    @property
    def size(self) -> int:
        """The number of bytes."""
        return self.stop - self.start


def parse_ranges(value: bytes, size: int, most: int = MAX_RANGES) -> list[Range] | None:
    """The ranges that a Range field asks of `size` bytes.

    None: ignore the field and answer 200 (another unit, malformed, too many, or no smaller than the whole).
    []: none of them is satisfiable, answer 416. One range: 206. Several: 206 with multipart/byteranges.
    Ranges are in the order of the request, unless some had to be merged: then they ascend.
    """
    match = _SET.fullmatch(value.strip(b" \t"))
    if match is None:
        return None
    specs = [spec for raw in match.group(1).split(b",", most + 8) if (spec := raw.strip(b" \t"))]
    if not specs or len(specs) > most:
        return None
    ranges: list[Range] = []
    for spec in specs:
        found = _SPEC.fullmatch(spec)
        if found is None:
            return None
        first, last = found.groups()
        if not first and not last:
            return None
        if first and last and _number(first) > _number(last):
            return None
        start = _number(first) if first else size - min(size, _number(last))
        stop = min(size, _number(last) + 1) if first and last else size
        if start < stop:
            ranges.append(Range(start, stop))
    if len(ranges) > 1:
        ranges = _merge(ranges)
        if sum(one.size for one in ranges) + len(ranges) * PART_COST > size and len(ranges) > 1:
            return None
    return ranges


def _number(digits: bytes) -> int:
    digits = digits.lstrip(b"0")
    return (
        int(digits or b"0") if len(digits) <= 18 else 10**18
    )  # beyond every file; int() refuses 5,000 digits


def _merge(ranges: list[Range]) -> list[Range]:
    """Makes one of ranges that overlap or are closer than a part costs; keeps the order if there are none."""
    merged: list[Range] = []
    for one in sorted(ranges):
        if merged and one.start - merged[-1].stop < PART_COST:
            merged[-1] = Range(merged[-1].start, max(merged[-1].stop, one.stop))
        else:
            merged.append(one)
    return ranges if len(merged) == len(ranges) else merged


def content_range(part: Range | None, size: int) -> bytes:
    """The Content-Range of a 206, or of a 416 if there is no part: ``bytes 0-4/10``, ``bytes */10``."""
    return b"bytes */%d" % size if part is None else b"bytes %d-%d/%d" % (part.start, part.stop - 1, size)


class ByteRanges(NamedTuple):
    """A multipart/byteranges content laid out: each part's head and range, then the tail."""

    content_type: bytes
    parts: list[tuple[bytes, Range]]
    tail: bytes
    size: int


def lay_out(
    ranges: Sequence[Range], size: int, content_type: bytes, boundary: bytes | None = None
) -> ByteRanges:
    """Lays out multipart/byteranges (RFC 9110 §14.6) for several ranges of `size` bytes of `content_type`.

    `boundary` is random if not given. The `size` of the result is the Content-Length.
    """
    if boundary is None:
        boundary = secrets.token_hex(16).encode()
    parts: list[tuple[bytes, Range]] = []
    total = 0
    for one in ranges:
        head = b"\r\n--%s\r\nContent-Type: %s\r\nContent-Range: %s\r\n\r\n" % (
            boundary,
            content_type,
            content_range(one, size),
        )
        if not parts:
            head = head[2:]
        parts.append((head, one))
        total += len(head) + one.size
    tail = b"\r\n--%s--\r\n" % boundary
    return ByteRanges(b"multipart/byteranges; boundary=" + boundary, parts, tail, total + len(tail))
