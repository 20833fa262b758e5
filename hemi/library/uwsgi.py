"""Requests of the uwsgi protocol, as a web server sends them. The answer is plain HTTP or CGI, up to the end."""

from __future__ import annotations

from collections.abc import Iterable
from struct import Struct

__all__ = ["MAX_BLOCK", "encode", "head"]

MAX_BLOCK = 65535
"""The most bytes that all variables can have together; servers often take less (uWSGI: 4 KiB, see buffer-size)."""

_SIZE = Struct("<H")
_HEAD = Struct("<BHB")


def encode(pairs: Iterable[tuple[bytes, bytes]]) -> bytes:
    """Variables as they are written; what several calls give can be put one behind the other.

    Raises ValueError for one that is too large for the protocol.
    """
    pieces: list[bytes] = []
    for name, value in pairs:
        _check(4 + len(name) + len(value))
        pieces += (_SIZE.pack(len(name)), name, _SIZE.pack(len(value)), value)
    return b"".join(pieces)


def head(block: bytes, modifier1: int = 0, modifier2: int = 0) -> bytes:
    """The head of a request with these encoded variables; the content follows as it is, as long as CONTENT_LENGTH says.

    Raises ValueError when the variables are too large for the protocol.
    """
    _check(len(block))
    return _HEAD.pack(modifier1, len(block), modifier2) + block


def _check(size: int) -> None:
    if size > MAX_BLOCK:
        raise ValueError(f"the variables have more than {MAX_BLOCK} bytes")
