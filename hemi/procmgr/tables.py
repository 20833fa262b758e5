"""Aligned tables and units for people: columns as wide as they must be, numbers to the right, colour on a terminal.

Colour is switched off by NO_COLOR (https://no-color.org), by TERM=dumb, and where the output is no terminal.
"""

from __future__ import annotations

import os
import re
import unicodedata
from collections.abc import Mapping, Sequence
from typing import Any, TextIO

__all__ = [
    "PLAIN",
    "Painter",
    "painter_for",
    "safe",
    "show_bytes",
    "show_count",
    "show_seconds",
    "show_table",
]

_CODES = {"bold": "1", "dim": "2", "red": "31", "green": "32", "yellow": "33", "cyan": "36"}
_NUMBER = re.compile(r"[-+]?[0-9][0-9.,]*( ?([KMGT]?B|ns|µs|ms|s|m|h|d|%|/s|[KMG](/s)?|[KMGT]?B/s))*|-")


class Painter:
    """Paints text, or leaves it plain."""

    def __init__(self, coloured: bool) -> None:
        self.coloured = coloured

    def __call__(self, text: str, *styles: str) -> str:
        """The text in these styles: bold, dim, red, green, yellow, cyan; "" is none."""
        codes = [_CODES[style] for style in styles if style]
        return f"\x1b[{';'.join(codes)}m{text}\x1b[0m" if self.coloured and codes and text else text


PLAIN = Painter(False)


def painter_for(stream: TextIO, environ: Mapping[str, str] | None = None) -> Painter:
    """The painter for a stream."""
    environ = os.environ if environ is None else environ
    return Painter(stream.isatty() and not environ.get("NO_COLOR") and environ.get("TERM", "") != "dumb")


def safe(value: Any) -> str:
    """A value as one line without control characters: what a terminal would obey comes from elsewhere."""
    text = "-" if value is None or value == "" else str(value)
    if text.isascii() and text.isprintable():
        return text
    return "".join(c if unicodedata.category(c)[0] != "C" else "�" for c in text)


def width(text: str) -> int:
    """The columns that a text takes on a terminal."""
    if text.isascii():
        return len(text)
    return sum(
        0 if unicodedata.combining(c) else 2 if unicodedata.east_asian_width(c) in "WF" else 1 for c in text
    )


def show_table(
    heads: Sequence[str],
    rows: Sequence[Sequence[Any]],
    painter: Painter = PLAIN,
    styles: Mapping[str, str] | None = None,
    limit: int = 0,
) -> str:
    """The lines of a table.

    `styles` paints cells by their text ("ready": "green"). `limit` is the columns that a line may have; what is longer
    is cut, unless it is 0.
    """
    cells = [[safe(cell) for cell in row] for row in rows]
    columns = range(len(heads))
    widths = [max([width(heads[n]), *(width(row[n]) for row in cells)]) for n in columns]
    right = [bool(cells) and all(_NUMBER.fullmatch(row[n]) for row in cells) for n in columns]
    lines = [_line(heads, widths, right, [("bold",)] * len(heads), painter, limit)]
    for row in cells:
        painted = [(styles.get(cell, ""),) if styles else ("",) for cell in row]
        lines.append(_line(row, widths, right, painted, painter, limit))
    return "\n".join(lines)


def _line(
    row: Sequence[str],
    widths: list[int],
    right: list[bool],
    styles: list[tuple[str]],
    painter: Painter,
    limit: int,
) -> str:
    pieces = []
    room = limit or 1 << 30
    for n, cell in enumerate(row):
        pad = " " * (widths[n] - width(cell))
        last = n == len(row) - 1
        text = cell if not right[n] else pad + cell
        if width(text) > room:
            text = text[: max(0, room - 1)] + "…"
        pieces.append(painter(text, *styles[n]) + ("" if right[n] or last else pad))
        room -= widths[n] + 2
        if room <= 0:
            break
    return "  ".join(pieces).rstrip()


def show_bytes(count: float | None) -> str:
    """1536 is "1.5 KB": units of 1024."""
    if count is None:
        return "-"
    for unit in ("B", "KB", "MB", "GB"):
        if abs(count) < 1000 or unit == "GB":
            break
        count /= 1024
    return f"{count:.0f} {unit}" if unit == "B" or count >= 100 else f"{count:.1f} {unit}"


def show_count(count: float | None) -> str:
    """12345 is "12.3K"."""
    if count is None:
        return "-"
    for unit in ("", "K", "M", "G"):
        if abs(count) < 10000 or unit == "G":
            break
        count /= 1000
    return f"{count:.0f}{unit}" if not unit and count == int(count) else f"{count:.1f}{unit}"


def show_seconds(seconds: float | None) -> str:
    """0.0015 is "1.5 ms", 3700 is "1h01m"."""
    if seconds is None:
        return "-"
    if seconds < 0.001:
        return f"{seconds * 1e6:.0f} µs"
    if seconds < 1:
        return f"{seconds * 1e3:.1f} ms" if seconds < 0.1 else f"{seconds * 1e3:.0f} ms"
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes = int(seconds) // 60
    if minutes < 60:
        return f"{minutes}m{int(seconds) % 60:02}s"
    if minutes < 1440:
        return f"{minutes // 60}h{minutes % 60:02}m"
    return f"{minutes // 1440}d{minutes % 1440 // 60:02}h"
