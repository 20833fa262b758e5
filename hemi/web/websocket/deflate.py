"""permessage-deflate (RFC 7692): what is agreed on, and both directions of it.

No context is kept between messages, in either direction: an idle WebSocket then has no window of 32 KiB and no
compressor of 256, and a message that goes to many members of a room is compressed once. Small messages compress
worse for it; those below `LEAST` are not compressed at all.
"""

from __future__ import annotations

import re
import zlib
from typing import Any

import gevent

from hemi.web.websocket.frames import INVALID_DATA, TOO_BIG, Failure

__all__ = ["LEAST", "Inflater", "agree", "deflate"]

LEAST = 256
"""Messages of fewer bytes are sent as they are."""

IN_THREAD = 32768
"""Messages from this size on are compressed in a thread: the trip costs 50 µs, deflating 32 KiB a millisecond."""

LEVEL = 4
MEMORY = 7
_TAIL = b"\x00\x00\xff\xff"
_NAME = "permessage-deflate"
_PARAMETER = re.compile(
    r"(?:server|client)_no_context_takeover|server_max_window_bits=(?P<q>\"?)(?:8|9|1[0-5])(?P=q)"
    r"|client_max_window_bits(?:=(?P<p>\"?)(?:8|9|1[0-5])(?P=p))?"
)


def agree(offers: list[str]) -> tuple[str, int] | None:
    """The answer to the first offer that can be accepted (RFC 7692 §5), with the window bits of what is sent.

    None when there is none. Offers with parameters that are unknown, doubled or out of range are declined (§7.1).
    """
    from wsproto.extensions import PerMessageDeflate  # 45 ms, which no start has to wait for

    for offer in offers:
        name, *parameters = [part.strip() for part in offer.split(";")]
        if name != _NAME or not all(_PARAMETER.fullmatch(part) for part in parameters):
            continue
        names = [part.partition("=")[0] for part in parameters]
        if len(set(names)) != len(names):
            continue
        extension = PerMessageDeflate(client_no_context_takeover=True, server_no_context_takeover=True)
        # Its own window of 8 bits is none of zlib's; a client's is as good as any other: ours inflates them all.
        wanted = [part.replace('"', "") for part in parameters if not part.startswith("client_max")]
        accepted = extension.accept("; ".join([name, *wanted]))
        if accepted is not None:
            return f"{name}; {accepted}", extension.server_max_window_bits
    return None


class Inflater:
    """Inflates one message after another, never beyond what is asked for."""

    __slots__ = ("_inflate",)

    def __init__(self) -> None:
        self._inflate: Any = None

    def begin(self) -> None:
        """A message begins."""
        self._inflate = zlib.decompressobj(-15)

    def update(self, data: bytes, limit: int) -> bytes:
        """What a piece comes to, in at most `limit` bytes. Raises Failure 1009 for more, 1007 for garbage."""
        inflate = self._inflate
        if inflate.eof:  # a final block (RFC 7692 §7.2.3.4); behind it is padding at the most
            if data.strip(b"\0"):
                raise _garbage()
            return b""
        try:
            result: bytes = inflate.decompress(data, limit + 1)
        except zlib.error:
            raise _garbage() from None
        if len(result) > limit:
            raise Failure(TOO_BIG, "the message is too big when it is inflated")
        if inflate.unused_data.strip(b"\0"):
            raise _garbage()
        return result

    def finish(self, limit: int) -> bytes:
        """The rest of a message. Raises Failure."""
        inflate = self._inflate
        rest = b"" if inflate.eof else self.update(_TAIL, limit)
        self._inflate = None
        return rest


def _garbage() -> Failure:
    return Failure(INVALID_DATA, "the message cannot be inflated")


def deflate(data: bytes, bits: int) -> bytes:
    """A message, compressed (RFC 7692 §7.2.1). Large ones in a thread; the greenlet waits."""
    if len(data) >= IN_THREAD:
        result: bytes = gevent.get_hub().threadpool.apply(_deflate, (data, bits))
        return result
    return _deflate(data, bits)


def _deflate(data: bytes, bits: int) -> bytes:
    compressor = zlib.compressobj(LEVEL, zlib.DEFLATED, -bits, MEMORY)
    return (compressor.compress(data) + compressor.flush(zlib.Z_SYNC_FLUSH))[:-4]
