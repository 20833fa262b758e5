"""Budgets: so many at once, so many a second; and what a connection has of them."""

from __future__ import annotations

from time import monotonic
from types import SimpleNamespace
from typing import Any

import pytest

from hemi.web.h2.calm import FRAMES, PIECE_PAYS, Budget, Calm
from hemi.web.h2.errors import ENHANCE_YOUR_CALM, ConnectionFault


def test_at_once_and_by_the_second() -> None:
    budget = Budget(3, 10, now=100.0)
    for _ in range(3):
        budget.left -= 1
        assert not budget.is_spent(100.0)
    budget.left -= 1
    assert budget.is_spent(100.0)
    assert not budget.is_spent(100.15)
    budget.left -= 1
    assert budget.is_spent(100.15)


def test_time_pays_no_more_than_there_was() -> None:
    budget = Budget(3, 10, now=100.0)
    budget.left = -1
    assert not budget.is_spent(1e6)
    assert budget.left == 3
    budget.left = 99
    assert not budget.is_spent(1e6)
    assert budget.left == 3
    assert repr(budget) == "<Budget 3 of 3>"


def test_what_was_sent_pays_for_frames() -> None:
    writer: Any = SimpleNamespace(delivered=0)
    calm = Calm(writer, 10, now=monotonic() + 3600)  # time pays nothing
    for _ in range(FRAMES):
        calm.suspect("PING")
    writer.delivered = 3 * PIECE_PAYS
    for _ in range(3):
        calm.suspect("PING")
    with pytest.raises(ConnectionFault, match=r"a flood of frames that bring nothing \(PING\)") as caught:
        calm.suspect("PING")
    assert caught.value.code == ENHANCE_YOUR_CALM


def test_resets_have_a_budget_of_their_own() -> None:
    writer: Any = SimpleNamespace(delivered=1 << 30)
    calm = Calm(writer, 10, now=monotonic() + 3600)
    for _ in range(10):
        calm.count_reset()
    with pytest.raises(ConnectionFault, match="too many streams end by a reset") as caught:
        calm.count_reset()
    assert caught.value.code == ENHANCE_YOUR_CALM and calm.frames.left == FRAMES
