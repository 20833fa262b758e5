"""Conditional requests: entity tags, and the preconditions of RFC 9110 §13 in the order of §13.2.2.

Entity tags are bytes in their wire form: ``b'"abc"'`` or ``b'W/"abc"'``. Modification times are Unix seconds.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from hemi.web.dates import parse_date

_ETAG = re.compile(rb'(?:W/)?"[\x21\x23-\x7e\x80-\xff]*"')
_ETAGS = re.compile(rb'[ \t,]*((?:W/)?"[\x21\x23-\x7e\x80-\xff]*")[ \t]*(?=,|$)')

MAX_ETAGS = 256
"""The most entity tags of a list that are looked at."""


def is_etag(tag: bytes) -> bool:
    """Whether this is an entity tag in its wire form (RFC 9110 §8.8.3)."""
    return _ETAG.fullmatch(tag) is not None


def parse_etags(value: bytes) -> list[bytes] | None:
    """The entity tags of If-Match or If-None-Match; None stands for ``*``.

    Whatever is malformed ends the list.
    """
    if value.strip(b" \t") == b"*":
        return None
    tags: list[bytes] = []
    position = 0
    while len(tags) < MAX_ETAGS and (match := _ETAGS.match(value, position)) is not None:
        tags.append(match.group(1))
        position = match.end()
    return tags


def same_strongly(one: bytes, other: bytes) -> bool:
    """Strong comparison (RFC 9110 §8.8.3.2): equal, and neither is weak."""
    return one == other and one[:2] != b"W/"


def same_weakly(one: bytes, other: bytes) -> bool:
    """Weak comparison (RFC 9110 §8.8.3.2): equal, the weakness aside."""
    return one.removeprefix(b"W/") == other.removeprefix(b"W/")


_UNCONDITIONAL = frozenset({"CONNECT", "OPTIONS", "TRACE"})  # RFC 9110 §13.2.1


def evaluate(
    method: str,
    index: Mapping[bytes, bytes],
    etag: bytes | None,
    last_modified: float | None,
    exists: bool = True,
) -> int:
    """What the preconditions of a request come to: 0 (go on), 304 or 412.

    `index` has the request's fields by lower-case name, lists joined by commas. `etag` and `last_modified`
    are of the representation that a 200 would send, None if unknown; `exists` is whether there is one at all.
    Only for responses that would be 2xx otherwise (RFC 9110 §13.2.1).
    """
    if method in _UNCONDITIONAL:
        return 0
    is_read = method == "GET" or method == "HEAD"
    value = index.get(b"if-match")
    if value is not None:
        if not _match_holds(value, etag, exists):
            return 412
    elif last_modified is not None and (value := index.get(b"if-unmodified-since")) is not None:
        date = parse_date(value)
        if date is not None and last_modified // 1 > date:
            return 412
    value = index.get(b"if-none-match")
    if value is not None:
        if not _none_match_holds(value, etag, exists):
            return 304 if is_read else 412
    elif is_read and last_modified is not None and (value := index.get(b"if-modified-since")) is not None:
        date = parse_date(value)
        if date is not None and last_modified // 1 <= date:
            return 304
    return 0


def _match_holds(value: bytes, etag: bytes | None, exists: bool) -> bool:
    tags = parse_etags(value)
    if tags is None:
        return exists
    return exists and etag is not None and any(same_strongly(tag, etag) for tag in tags)


def _none_match_holds(value: bytes, etag: bytes | None, exists: bool) -> bool:
    if value == etag:  # a browser sends back the one tag that it was given
        return not exists
    tags = parse_etags(value)
    if tags is None:
        return not exists
    return not exists or etag is None or not any(same_weakly(tag, etag) for tag in tags)


def if_range_holds(
    index: Mapping[bytes, bytes], etag: bytes | None, last_modified: float | None, now: float | None = None
) -> bool:
    """Whether a Range may be honoured: no If-Range, or one with the current validator (RFC 9110 §13.1.5).

    A tag is compared strongly, a date exactly. With `now` (Unix seconds) given, a file changed within the
    last second has no strong date: it can change again without a new one (RFC 9110 §8.8.2.2).
    """
    value = index.get(b"if-range")
    if value is None:
        return True
    if is_etag(value):
        return etag is not None and same_strongly(value, etag)
    if last_modified is None or (now is not None and now - last_modified < 1):
        return False
    return parse_date(value) == last_modified // 1
