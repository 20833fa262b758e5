"""Budgets: so many at once, so many a second."""

from __future__ import annotations

from hemi.web.h2.calm import Budget


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
