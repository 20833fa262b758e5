"""The board that workers share, and whose turn it is to accept."""

from __future__ import annotations

import pytest

from hemi.procmgr import board as module
from hemi.procmgr.board import GIVE_WAY, INSIST, STALE, Board, Turn


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    now = [1000.0]
    monkeypatch.setattr(module, "monotonic", lambda: now[0])
    return now


def make(board: Board, conns: int) -> tuple[Turn, list[int]]:
    taken = [conns]
    turn = Turn(board, board.take({each.slot for each in made}), lambda: taken[0])
    turn.open = True
    turn.note()
    made.append(turn)
    return turn, taken


made: list[Turn] = []


@pytest.fixture(autouse=True)
def none_made() -> None:
    made.clear()


def test_one_alone_always_accepts(clock: list[float]) -> None:
    turn, _ = make(Board(), 1000)
    assert turn()


def test_who_has_fewer_goes_first(clock: list[float]) -> None:
    board = Board()
    (one, first), (two, _) = make(board, 3), make(board, 2)
    assert not one()
    assert two()
    first[0] = 2
    assert one()
    assert two()


def test_who_was_let_go_first_and_does_not_come_is_passed(clock: list[float]) -> None:
    board = Board()
    (one, _), (two, _) = make(board, 3), make(board, 0)
    assert not one()
    clock[0] += GIVE_WAY / 2
    assert not one()
    clock[0] += GIVE_WAY
    assert one()
    clock[0] += INSIST / 2
    assert one()
    clock[0] += INSIST
    two.note()
    assert not one()


def test_a_stale_note_does_not_count(clock: list[float]) -> None:
    board = Board()
    (one, _), _ = make(board, 3), make(board, 0)
    clock[0] += STALE * 2
    assert one()


def test_who_does_not_accept_does_not_count(clock: list[float]) -> None:
    board = Board()
    (one, _), (two, _) = make(board, 3), make(board, 0)
    two.close()
    assert one()
    two.note()
    assert one()


def test_who_is_not_ready_accepts_nothing() -> None:
    turn = Turn(Board(), 0, lambda: 0)
    assert turn(), "a process that is no worker does not wait"
    turn.waiting = True
    assert not turn()
    turn.waiting = False
    turn.open = True
    assert turn()


def test_slots_are_used_again() -> None:
    board = Board()
    assert [board.take(set()), board.take({0}), board.take({1})] == [0, 1, 0]
    assert repr(board) == "<Board [-1, -1]>"
