"""Content codings (RFC 9110 §8.4.1): gzip, br (RFC 7932) and zstd (RFC 8878), behind one encoder.

The last two come with extra packages: `available` says what this installation can do, `EXTRAS` what to
install for the rest.
"""

from __future__ import annotations

import importlib
import zlib
from functools import cache, lru_cache
from typing import Any, Literal, Protocol

from hemi.web.negotiate import best_coding

Coding = Literal["zstd", "br", "gzip"]

PREFERENCE: tuple[Coding, ...] = ("zstd", "br", "gzip")
"""The best first: on text, zstd at its level 3 takes a quarter of the time of gzip at 5 and is no larger."""

EXTRAS: dict[str, str] = {"br": "gorox[brotli]", "zstd": "gorox[zstd]"}
"""What pip installs for a coding."""

SUFFIXES: dict[str, str] = {"br": ".br", "zstd": ".zst", "gzip": ".gz"}
"""How the names of files end that were compressed beforehand."""

LEVELS: dict[str, tuple[int, int]] = {"gzip": (1, 9), "br": (0, 11), "zstd": (1, 19)}
"""The least and the most level. zstd has more, whose windows browsers do not take (RFC 9659: 8 MiB)."""

STREAM_WINDOW_BITS = 18
"""The window of what is streamed, 256 KiB: a connection that streams for hours holds the encoder's memory."""


class Encoder(Protocol):
    """Makes one content smaller. Every method returns what is ready to go out, maybe nothing."""

    def update(self, data: bytes) -> bytes:
        """Takes a piece."""
        ...

    def flush(self) -> bytes:
        """Returns all that was taken so far, so that the client can decode it."""
        ...

    def finish(self) -> bytes:
        """Ends the content."""
        ...


class GzipEncoder:
    """gzip (RFC 1952), without name and time: equal contents give equal bytes."""

    __slots__ = ("_state", "update")

    def __init__(self, level: int) -> None:
        self._state = zlib.compressobj(level, zlib.DEFLATED, 16 + zlib.MAX_WBITS)
        self.update = self._state.compress

    def flush(self) -> bytes:
        """Returns all that was taken so far."""
        return self._state.flush(zlib.Z_SYNC_FLUSH)

    def finish(self) -> bytes:
        """Ends the content."""
        return self._state.flush(zlib.Z_FINISH)


class BrotliEncoder:
    """br, by the package brotli."""

    __slots__ = ("finish", "flush", "update")

    def __init__(self, level: int, window_bits: int) -> None:
        state = _module("br").Compressor(quality=level, lgwin=window_bits)
        self.update, self.flush, self.finish = state.process, state.flush, state.finish


class ZstdEncoder:
    """zstd, by the standard library from Python 3.14 on, before by the package backports.zstd."""

    __slots__ = ("_module", "_state", "update")

    def __init__(self, level: int, window_bits: int) -> None:
        self._module = module = _module("zstd")
        options = {
            module.CompressionParameter.compression_level: level,
            module.CompressionParameter.window_log: window_bits,
        }
        self._state = module.ZstdCompressor(options=options)
        self.update = self._state.compress

    def flush(self) -> bytes:
        """Returns all that was taken so far."""
        return self._state.flush(self._module.ZstdCompressor.FLUSH_BLOCK)  # type: ignore[no-any-return]

    def finish(self) -> bytes:
        """Ends the content."""
        return self._state.flush(self._module.ZstdCompressor.FLUSH_FRAME)  # type: ignore[no-any-return]


_MODULES = {"br": ("brotli",), "zstd": ("compression.zstd", "backports.zstd")}


@cache
def _module(coding: str) -> Any:
    """The module that makes a coding, or None when none is installed."""
    for name in _MODULES[coding]:
        try:
            return importlib.import_module(name)
        except ImportError:
            continue
    return None


def is_available(coding: str) -> bool:
    """Whether a coding can be made here."""
    return coding == "gzip" or (coding in _MODULES and _module(coding) is not None)


def available() -> tuple[Coding, ...]:
    """The codings that can be made here, the best first."""
    return tuple(coding for coding in PREFERENCE if is_available(coding))


@lru_cache(1024)
def choose(offered: tuple[str, ...], accepted: bytes | None) -> str:
    """The one of `offered` for a client that sent this Accept-Encoding, or "" for the content as it is.

    What RFC 9110 §12.5.3 would have answered with 406, a client that refuses even that, gets it all the same.
    """
    coding = best_coding(offered, None if accepted is None else accepted.decode("latin-1"))
    return "" if coding is None or coding == "identity" else coding


def encoder(coding: str, level: int, size: int | None = None) -> Encoder:
    """A fresh encoder. `size` is that of the content in bytes, None when it is streamed.

    Raises AttributeError for a coding that is not installed.
    """
    if coding == "gzip":
        return GzipEncoder(level)
    # A window beyond the content costs memory, and time to clear it, for nothing.
    bits = STREAM_WINDOW_BITS if size is None else min(22, max(16, (size - 1).bit_length() if size else 0))
    return BrotliEncoder(level, bits) if coding == "br" else ZstdEncoder(level, bits)
