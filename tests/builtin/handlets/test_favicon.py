"""The built-in icon."""

from __future__ import annotations

import struct
import xml.etree.ElementTree
import zlib

import hemi.builtin  # noqa: F401  registers its components
from hemi.builtin.handlets.favicon import SIZES, draw, draw_icon
from tests.webkit import serve

RULES = [{"handlets": [{"favicon": {"max_age": "1d"}}]}]


def test_the_icon_is_sent() -> None:
    with serve(rules=RULES) as site:
        answer = site.get("/favicon.ico")
        assert answer.status == 200
        assert answer.content == draw_icon()
        assert answer.header("content-type") == "image/x-icon"
        assert answer.header("cache-control") == "public, max-age=86400"
        assert site.get("/favicon.ico", if_none_match=answer.header("etag") or "").status == 304
        svg = site.get("/favicon.svg")
        assert svg.header("content-type") == "image/svg+xml"
        assert svg.header("etag") != answer.header("etag")
        xml.etree.ElementTree.fromstring(svg.content)


def test_all_else_is_declined() -> None:
    with serve(rules=RULES) as site, site.connect() as client:
        assert site.get("/").status == site.get("/x/favicon.ico").status == 404
        client.request("POST", "/favicon.ico", content=b"x")
        assert client.answer().status == 404


def test_it_is_an_icon_of_several_sizes() -> None:
    icon = draw_icon()
    assert struct.unpack_from("<HHH", icon) == (0, 1, len(SIZES))
    for at, size in enumerate(SIZES):
        width, height, _, _, _, depth, length, offset = struct.unpack_from("<BBBBHHII", icon, 6 + 16 * at)
        assert (width, height, depth) == (size, size, 32)
        assert icon[offset : offset + length] == draw(size)


def test_it_is_drawn_as_png() -> None:
    picture = draw(32)
    assert picture.startswith(b"\x89PNG\r\n\x1a\n")
    at, chunks = 8, {}
    while at < len(picture):
        (length,) = struct.unpack_from(">I", picture, at)
        name, data = picture[at + 4 : at + 8], picture[at + 8 : at + 8 + length]
        assert struct.unpack_from(">I", picture, at + 8 + length)[0] == zlib.crc32(name + data)
        chunks[name] = data
        at += 12 + length
    rows = zlib.decompress(chunks[b"IDAT"])
    assert len(rows) == 32 * (1 + 32 * 4)
    corner, centre_left = rows[1:5], rows[16 * 129 + 1 + 4 * 8 :][:4]
    assert corner[3] == 0, "the corners are round"
    assert centre_left == b"\xff\xff\xff\xff", "the letter is white"
