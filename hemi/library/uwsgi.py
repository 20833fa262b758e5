"""Requests of the uwsgi protocol, as a web server sends them. The answer is plain HTTP or CGI, up to the end."""

from __future__ import annotations

from collections.abc import Iterable
from struct import Struct

__all__ = ["MAX_BLOCK", "head"]

MAX_BLOCK = 65535
"""The most bytes that all variables can have together; servers often take less (uWSGI: 4 KiB, see buffer-size)."""

_SIZE = Struct("<H")
_HEAD = Struct("<BHB")


def head(pairs: Iterable[tuple[bytes, bytes]], modifier1: int = 0, modifier2: int = 0) -> bytes:
    """The head of a request; the content follows as it is, as long as CONTENT_LENGTH says.

    Raises ValueError when the variables are too large for the protocol.
    """
    pieces: list[bytes] = []
    total = 0
    for name, value in pairs:
        total += 4 + len(name) + len(value)
        if total > MAX_BLOCK:
            raise ValueError(f"the variables have more than {MAX_BLOCK} bytes")
        pieces += (_SIZE.pack(len(name)), name, _SIZE.pack(len(value)), value)
    return _HEAD.pack(modifier1, total, modifier2) + b"".join(pieces)
