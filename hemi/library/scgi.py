"""SCGI requests, as a web server sends them (the SCGI protocol, 2008). The answer is plain CGI, up to the end."""

from __future__ import annotations

from collections.abc import Iterable

__all__ = ["head"]


def head(pairs: Iterable[tuple[bytes, bytes]], size: int) -> bytes:
    """The head of a request whose content has `size` bytes; the content follows as it is.

    Raises ValueError for a NUL in a name or value, which would make further variables of what follows it.
    """
    pieces = [b"CONTENT_LENGTH\0%d\0SCGI\x001\0" % size]
    for name, value in pairs:
        if b"\0" in name or b"\0" in value:
            raise ValueError(f"a variable must not have a NUL: {name!r}")
        if name != b"CONTENT_LENGTH" and name != b"SCGI":
            pieces.append(b"%b\0%b\0" % (name, value))
    block = b"".join(pieces)
    return b"%d:%b," % (len(block), block)
