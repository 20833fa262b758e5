"""Media types."""

import re

import pytest

from hemi.web.mime import TYPES, type_of, with_charset


@pytest.mark.parametrize(
    ("path", "media_type"),
    [
        ("/index.html", "text/html; charset=utf-8"),
        ("/A.B/X.HTML", "text/html; charset=utf-8"),
        ("app.mjs", "text/javascript; charset=utf-8"),
        ("a.wasm", "application/wasm"),
        ("a.woff2", "font/woff2"),
        ("a.avif", "image/avif"),
        ("a.webp", "image/webp"),
        ("a.svg", "image/svg+xml"),
        ("a.json", "application/json"),
        ("a.xml", "application/xml"),
        ("a.mp4", "video/mp4"),
        ("site.webmanifest", "application/manifest+json"),
        ("a.tar.gz", "application/gzip"),
        ("favicon.ico", "image/x-icon"),
        ("README", "application/octet-stream"),
        ("/a.html/README", "application/octet-stream"),
        ("/.html", "application/octet-stream"),
        ("/.config.json", "application/json"),
        ("a.", "application/octet-stream"),
        ("a.unknown", "application/octet-stream"),
        ("", "application/octet-stream"),
        ("a.\udcff", "application/octet-stream"),
    ],
)
def test_type_of(path: str, media_type: str) -> None:
    assert type_of(path) == media_type


def test_extra_types_and_default() -> None:
    assert type_of("a.foo", {"foo": "x/foo"}) == "x/foo"
    assert type_of("a.HTML", {"html": "x/html"}) == "x/html"
    assert type_of("a", {"foo": "x/foo"}, "text/plain") == "text/plain"


def test_the_table() -> None:
    assert len(TYPES) >= 120
    for suffix, media_type in TYPES.items():
        assert re.fullmatch(r"[a-z0-9]+", suffix)
        assert re.fullmatch(r"[a-z]+/[a-z0-9.+-]+(; charset=utf-8)?", media_type)
        assert media_type.startswith("text/") == media_type.endswith("; charset=utf-8")


def test_charset() -> None:
    assert with_charset("text/plain") == "text/plain; charset=utf-8"
    assert with_charset("text/plain; charset=gbk") == "text/plain; charset=gbk"
    assert with_charset("image/png") == "image/png"
