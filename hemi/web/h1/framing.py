"""Decisions about HTTP/1 messages that the parser leaves to us. Pure functions, in the order of RFC 9112.

llhttp, the parser, refuses bare CR and LF, NUL, obs-fold, white space before colons, odd lengths and chunk sizes, and
Content-Length together with Transfer-Encoding. It accepts what is refused here.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Protocol

from hemi.values import Size
from hemi.web.fields import SINGLETONS

METHODS = ("GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH", "TRACE", "CONNECT")
"""Those of RFC 9110 §9.3 and RFC 5789."""

BODYLESS = frozenset({"TRACE"})
"""Methods whose requests must not have content (RFC 9110 §9.3.8)."""


class Limits(Protocol):
    """What a server allows, in bytes."""

    max_head_size: Size
    max_target_size: Size


class Refusal(Exception):
    """A request that is not served: the status to answer with, and what is wrong with it. Never forwarded."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(f"{status} {text}")
        self.status = status
        self.text = text


def merge_fields(fields: Sequence[tuple[bytes, bytes]]) -> dict[bytes, bytes]:
    """The index of fields in which some name repeats: lists are joined by commas (RFC 9110 §5.3), cookies by
    semicolons (RFC 6265 §5.4). Raises Refusal for a repeated field that must stand alone."""
    index: dict[bytes, bytes] = {}
    for name, value in fields:
        if name not in index:
            index[name] = value
        elif name in SINGLETONS:
            raise Refusal(400, f"The field {name.decode()} is repeated.")
        else:
            index[name] += (b"; " if name == b"cookie" else b", ") + value
    return index


def split_options(connection: bytes) -> list[bytes]:
    """The options of a Connection field, in lower case (RFC 9110 §7.6.1)."""
    return [option.strip(b" \t") for option in connection.lower().split(b",")]


def content_size(method: str, version: int, index: Mapping[bytes, bytes]) -> int:
    """The size of a request's content in bytes, -1 when it is chunked (RFC 9112 §6.3). Raises Refusal."""
    coding = index.get(b"transfer-encoding")
    if coding is not None:
        if version < 11:
            raise Refusal(400, "HTTP/1.0 has no Transfer-Encoding.")
        if b"content-length" in index:
            raise Refusal(400, "There is both a Transfer-Encoding and a Content-Length.")
        coding = coding.lower()
        if coding != b"chunked":
            if not coding.endswith(b"chunked"):
                raise Refusal(400, "The last transfer coding must be chunked.")
            raise Refusal(501, "The only known transfer coding is chunked.")
        size = -1
    else:
        length = index.get(b"content-length")
        if length is None:
            return 0
        if not length.isdigit():
            raise Refusal(400, "Content-Length must be a number of bytes.")
        size = int(length)
    if size and method in BODYLESS:
        raise Refusal(400, f"A {method} request has no content.")
    return size


# Possessive, and behind no letter: linear in time whatever it meets.
_LINE = re.compile(rb"(?<![A-Za-z-])([A-Za-z-]++)( ++)(\S++)( ++)HTTP/")


def check_request_line(method: bytes, target: bytes, window: bytes) -> None:
    """Refuses a request line with doubled spaces, which the parser lets pass (RFC 9112 §3: one SP): between two
    spaces a proxy and a server could read different targets.

    Called only when some doubled space was seen in `window`, the bytes that hold the line. Where in them, the parser
    does not tell: a line with these parts and doubled spaces anywhere in them is taken for it.
    """
    good = method + b" " + target + b" HTTP/" in window
    for match in _LINE.finditer(window):
        word, first, found, second = match.groups()
        if found == target and word.endswith(method) and len(first) + len(second) > 2:
            good = False
    if not good:
        raise Refusal(400, "The parts of the request line must be separated by one space.")


def head_size(target: bytes, fields: Sequence[tuple[bytes, bytes]]) -> int:
    """The size of a head in bytes, but for its method, as it would be written plainly."""
    return len(target) + 14 + sum(len(name) + len(value) + 4 for name, value in fields)


_UNKNOWN = re.compile(rb"[\r\n]*+[!#$%&'*+.^_`|~0-9A-Za-z-]{1,32} [/*h]")
_START_OF_UNKNOWN = re.compile(rb"[\r\n]*+[!#$%&'*+.^_`|~0-9A-Za-z-]{1,32} ?")
_LATER_LINE = re.compile(rb"\r\n\r\n([!#$%&'*+.^_`|~0-9A-Za-z-]{1,32}) [/*h][^\r\n]* HTTP/1\.[01]\r\n")


def is_unknown_method(window: bytes, whole: bool) -> bool | None:
    """Whether the parser, which stops as soon as no method that it knows begins like this, has stopped at one that is
    well-formed. None while more must come to tell.

    `whole`: what is in the window began with this request. Behind another one, where the parser stopped is not known,
    and only a whole request line counts.
    """
    if whole:
        return None if _START_OF_UNKNOWN.fullmatch(window) else _UNKNOWN.match(window) is not None
    return any(name.decode() not in METHODS for name in _LATER_LINE.findall(window))


def refusal_of_start(target: bytes, window: bytes, arrived: int, limits: Limits) -> Refusal | None:
    """Why the start of a head is refused to which nothing could be added that makes it good; None when it may go on.

    `window` has all of it that has come, or nothing when that is not known; `arrived` is how many bytes it has at
    least, `target` what has come of the target.
    """
    line, end, _ = window.lstrip(b"\r\n").partition(b"\r\n")
    if end and b" HTTP/" not in line:
        return Refusal(400, "HTTP/0.9 is not served.")
    is_large = arrived > limits.max_head_size
    if len(target) > limits.max_target_size or (is_large and line and not end):
        return Refusal(414, "The target of the request is too long.")
    return Refusal(431, "The head of the request is too large.") if is_large else None
