"""Sparing: one line a second, and what it stands for."""

from __future__ import annotations

from hemi.library.sparing import Sparing


def test_one_line_a_second() -> None:
    sparing = Sparing()
    assert [sparing.admit(now) for now in (1.0, 1.1, 1.9, 2.0, 2.5, 9.0)] == [0, None, None, 2, None, 1]
