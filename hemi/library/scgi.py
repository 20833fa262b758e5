"""SCGI requests, as a web server sends them (the SCGI protocol, 2008). The answer is plain CGI, up to the end."""

from __future__ import annotations

from collections.abc import Iterable

__all__ = ["encode", "head"]


def encode(pairs: Iterable[tuple[bytes, bytes]]) -> bytes:
    """Variables as they are written; what several calls give can be put one behind the other.

    CONTENT_LENGTH and SCGI are left out: they are the head's. Raises ValueError for a NUL in a name or value, which
    would make further variables of what follows it.
    """
    pieces: list[bytes] = []
    for name, value in pairs:
        if b"\0" in name or b"\0" in value:
            raise ValueError(f"a variable must not have a NUL: {name!r}")
        if name != b"CONTENT_LENGTH" and name != b"SCGI":
            pieces.append(b"%b\0%b\0" % (name, value))
    return b"".join(pieces)


def head(block: bytes, size: int) -> bytes:
    """The head of a request with these encoded variables and a content of `size` bytes, which follows as it is."""
    block = b"CONTENT_LENGTH\0%d\0SCGI\x001\0%b" % (size, block)
    return b"%d:%b," % (len(block), block)
