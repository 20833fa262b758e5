"""Tables and units."""

from __future__ import annotations

import io

import pytest

from hemi.procmgr.tables import (
    PLAIN,
    Painter,
    painter_for,
    safe,
    show_bytes,
    show_count,
    show_seconds,
    show_table,
)


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_columns_are_aligned_and_numbers_stand_right() -> None:
    assert show_table(["name", "size"], [["a", 5], ["long name", 1234], ["c", None]]) == (
        "name       size\na             5\nlong name  1234\nc             -"
    )


def test_wide_letters_count_twice() -> None:
    assert show_table(["x", "y"], [["日本", "a"], ["é", "b"]]).split("\n")[1:] == ["日本  a", "é     b"]


def test_lines_are_cut() -> None:
    assert (
        show_table(["name", "text"], [["a", "x" * 100]], limit=20).split("\n")[1] == "a     " + "x" * 13 + "…"
    )


def test_what_a_terminal_would_obey_is_not_shown() -> None:
    assert safe("a\x1b[2Jb\nc\u202e") == "a�[2Jb�c�"
    assert safe("") == safe(None) == "-"
    assert safe("Grüße 日本") == "Grüße 日本"


def test_colour_is_for_terminals_that_want_it() -> None:
    assert painter_for(Terminal(), {}).coloured
    assert not painter_for(Terminal(), {"NO_COLOR": "1"}).coloured
    assert not painter_for(Terminal(), {"TERM": "dumb"}).coloured
    assert not painter_for(io.StringIO(), {}).coloured
    assert Painter(True)("x", "red") == "\x1b[31mx\x1b[0m"
    assert PLAIN("x", "red") == "x"
    assert "\x1b[32mready" in show_table(["s"], [["ready"]], Painter(True), {"ready": "green"})


@pytest.mark.parametrize(
    ("count", "text"),
    [(None, "-"), (0, "0 B"), (999, "999 B"), (1536, "1.5 KB"), (250 << 10, "250 KB"), (5 << 30, "5.0 GB")],
)
def test_bytes(count: float | None, text: str) -> None:
    assert show_bytes(count) == text


@pytest.mark.parametrize(
    ("count", "text"), [(None, "-"), (7, "7"), (0.5, "0.5"), (9999, "9999"), (12345, "12.3K"), (2e7, "20.0M")]
)
def test_counts(count: float | None, text: str) -> None:
    assert show_count(count) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (None, "-"),
        (0.00005, "50 µs"),
        (0.0015, "1.5 ms"),
        (0.25, "250 ms"),
        (12.34, "12.3 s"),
        (75, "1m15s"),
        (3700, "1h01m"),
        (90000, "1d01h"),
    ],
)
def test_seconds(seconds: float | None, text: str) -> None:
    assert show_seconds(seconds) == text
