"""The handlet `favicon`: an icon for sites that have none, so that browsers stop asking.

The icon is drawn here, once: a letter G on a rounded square. As code it is small, and nobody has to trust a blob.
"""

from __future__ import annotations

import math
import struct
import zlib
from collections.abc import Iterator
from functools import cache
from typing import TYPE_CHECKING

from hemi.component import prop
from hemi.values import Duration
from hemi.web.handlet import Handlet

if TYPE_CHECKING:
    from hemi.web.request import Request
    from hemi.web.response import Response

PATHS = ("/favicon.ico", "/favicon.svg")
SIZES = (16, 32, 48)

LIGHT, DARK = (0xFF, 0x9D, 0x4D), (0xB4, 0x44, 0x0C)

# In units of the icon's side, y downwards.
CORNER, RADIUS, STROKE = 0.24, 0.25, 0.115
OPENING = math.radians(42)  # of the G, above its bar

SVG = b"""<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 100 100">
<linearGradient id="g" x2="1" y2="1">
<stop stop-color="#ff9d4d"/><stop offset="1" stop-color="#b4440c"/></linearGradient>
<rect width="100" height="100" rx="24" fill="url(#g)"/>
<path d="M68.6 33.3A25 25 0 1 0 75 50H55" fill="none" stroke="#fff" stroke-width="11.5" stroke-linecap="round"/>
</svg>
"""


class Favicon(Handlet, sign="favicon"):
    """Sends a built-in icon for /favicon.ico and /favicon.svg, and declines everything else.

    Behind a `static` with `fallthrough`, it serves sites that have no icon of their own.
    """

    max_age: Duration = prop("7d", "How long browsers may keep the icon.", inherit=False)

    def prepare(self) -> None:
        """Draws the icon."""
        self._icon = draw_icon()
        self._tag = f"{zlib.crc32(self._icon):08x}"
        self._control = f"public, max-age={round(self.max_age)}"

    def handle(self, req: Request, resp: Response) -> bool:
        """Sends the icon."""
        if req.path not in PATHS or req.method not in ("GET", "HEAD"):
            return False
        is_svg = req.path == PATHS[1]
        resp.content_type = "image/svg+xml" if is_svg else "image/x-icon"
        resp.set_header("cache-control", self._control)
        resp.set_etag(self._tag + ("-svg" if is_svg else ""))
        resp.send(SVG if is_svg else self._icon)
        return True


@cache
def draw_icon() -> bytes:
    """The icon as an ICO file, with a PNG of each size."""
    pictures = [draw(size) for size in SIZES]
    offset = 6 + 16 * len(pictures)
    entries, contents = [], b"".join(pictures)
    for size, picture in zip(SIZES, pictures, strict=True):
        entries.append(struct.pack("<BBBBHHII", size, size, 0, 0, 1, 32, len(picture), offset))
        offset += len(picture)
    return struct.pack("<HHH", 0, 1, len(pictures)) + b"".join(entries) + contents


def draw(size: int) -> bytes:
    """The icon as a PNG with `size` pixels a side."""
    rows = b"".join(b"\0" + bytes(_row(y, size)) for y in range(size))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
        for name, data in (
            (
                b"IHDR",
                struct.pack(">IIBBBBB", size, size, 8, 6, 0, 0, 0),
            ),  # 8 bits of red, green, blue and alpha
            (b"IDAT", zlib.compress(rows, 9)),
            (b"IEND", b""),
        )
    )


def _row(row: int, size: int) -> Iterator[int]:
    for column in range(size):
        x, y = (column + 0.5) / size, (row + 0.5) / size
        share = (x + y) / 2  # of the gradient
        letter = _cover(_letter_distance(x, y), size)
        for light, dark in zip(LIGHT, DARK, strict=True):
            ground = light + (dark - light) * share
            yield round(ground + (255 - ground) * letter)
        yield round(255 * _cover(_square_distance(x, y), size))


def _cover(distance: float, size: int) -> float:
    """How much of a pixel is inside of a shape whose edge is this far away, negative inside."""
    return min(1.0, max(0.0, 0.5 - distance * size))


def _square_distance(x: float, y: float) -> float:
    dx, dy = abs(x - 0.5) - 0.5 + CORNER, abs(y - 0.5) - 0.5 + CORNER
    return math.hypot(max(dx, 0.0), max(dy, 0.0)) + min(max(dx, dy), 0.0) - CORNER


def _letter_distance(x: float, y: float) -> float:
    dx, dy = x - 0.5, y - 0.5
    bar = math.hypot(x - min(0.75, max(0.55, x)), dy)
    angle = math.atan2(-dy, dx)
    if 0 < angle < OPENING:
        end_x, end_y = RADIUS * math.cos(OPENING), -RADIUS * math.sin(OPENING)
        ring = min(math.hypot(dx - end_x, dy - end_y), math.hypot(dx - RADIUS, dy))
    else:
        ring = abs(math.hypot(dx, dy) - RADIUS)
    return min(ring, bar) - STROKE / 2
