"""Content codings: what goes in comes out again, and which one is chosen."""

from __future__ import annotations

import gzip
import zlib
from typing import Any

import brotli
import pytest

from hemi.web import codings
from hemi.web.codings import choose, encoder

zstd = codings._module("zstd")

CODINGS = ["gzip", "br", "zstd"]
TEXT = b"a rather repetitive text, " * 5000


def decoder(coding: str) -> Any:
    """A function that decodes piece by piece."""
    return {
        "gzip": lambda: zlib.decompressobj(31).decompress,
        "br": lambda: brotli.Decompressor().process,
        "zstd": lambda: zstd.ZstdDecompressor().decompress,
    }[coding]()


@pytest.mark.parametrize("coding", CODINGS)
@pytest.mark.parametrize("size", [None, 0, 1, 1000, len(TEXT), 1 << 30])
@pytest.mark.parametrize("level", [0, 1])
def test_round_trips(coding: str, size: int | None, level: int) -> None:
    content = TEXT[:size]
    state = encoder(coding, codings.LEVELS[coding][level] if coding != "br" else 4 + level, size)
    coded = (
        b"".join(state.update(content[at : at + 7919]) for at in range(0, len(content), 7919))
        + state.finish()
    )
    assert decoder(coding)(coded) == content
    assert len(coded) < len(content) or len(content) < 100


@pytest.mark.parametrize("coding", CODINGS)
def test_a_flush_makes_all_so_far_readable(coding: str) -> None:
    state, decode = encoder(coding, 3), decoder(coding)
    for piece in (b"one", b"two" * 1000, b"three"):
        assert decode(state.update(piece) + state.flush()) == piece


def test_equal_contents_give_equal_bytes() -> None:
    first, second = encoder("gzip", 5), encoder("gzip", 5)
    assert first.update(TEXT) + first.finish() == second.update(TEXT) + second.finish()
    state = encoder("gzip", 5)
    assert gzip.decompress(state.update(TEXT) + state.finish()) == TEXT


@pytest.mark.parametrize(
    ("accepted", "coding"),
    [
        (None, ""),
        (b"", ""),
        (b"gzip", "gzip"),
        (b"gzip, deflate, br, zstd", "zstd"),
        (b"gzip;q=1.0, br;q=0.9", "gzip"),
        (b"*", "zstd"),
        (b"*;q=0", ""),
        (b"identity;q=0", ""),
        (b"x-gzip", "gzip"),
        (b"identity, gzip;q=0.5", ""),
        (b"\xff, gzip", "gzip"),
    ],
)
def test_choose(accepted: bytes | None, coding: str) -> None:
    assert choose(("zstd", "br", "gzip"), accepted) == coding


def test_what_is_available(monkeypatch: pytest.MonkeyPatch) -> None:
    assert codings.available() == ("zstd", "br", "gzip")
    monkeypatch.setattr(codings, "_module", lambda coding: None)
    assert codings.available() == ("gzip",)
    assert not codings.is_available("zstd")
    assert not codings.is_available("compress")
