"""The table of a child's moves, its counts, and what exits are called."""

from __future__ import annotations

import os
import signal

import pytest

from hemi.errors import BugError
from hemi.procmgr import child as module
from hemi.procmgr.child import ALIVE, BACKOFF_MOST, MOVES, Child, backoff, describe_exit

EVENTS = sorted({event for moves in MOVES.values() for event in moves})


def in_state(state: str) -> Child:
    child = Child(1)
    child.state = state
    return child


def test_the_table_is_closed() -> None:
    assert {state for moves in MOVES.values() for state in moves.values()} <= set(MOVES)
    reached = {"new"}
    for _ in MOVES:
        reached |= {state for start in reached for state in MOVES[start].values()}
    assert reached == set(MOVES)


@pytest.mark.parametrize("state", sorted(MOVES))
@pytest.mark.parametrize("event", EVENTS)
def test_every_event_in_every_state(state: str, event: str) -> None:
    child = in_state(state)
    if child.can(event):
        child.move(event, "why")
        assert child.state == MOVES[state][event]
        assert child.reason == "why"
    else:
        with pytest.raises(BugError, match="no legal move"):
            child.move(event)
        assert child.state == state


def test_only_states_with_a_process_end() -> None:
    assert {state for state, moves in MOVES.items() if "exit" in moves} == ALIVE


def test_a_process_that_was_steady_resets_the_count(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [1000.0]
    monkeypatch.setattr(module.time, "monotonic", lambda: now[0])
    child = Child(1)
    for expected in (1, 2, 3):
        child.move("fork")
        child.move("ready")
        now[0] += 0.5
        child.move("exit")
        assert child.note_failure() == expected
    child.move("fork")
    child.move("ready")
    now[0] += 1.5
    child.move("exit")
    assert child.note_failure() == 0


def test_never_ready_is_a_failure() -> None:
    child = Child(1)
    child.move("fork")
    child.move("exit")
    assert child.note_failure() == 1


def test_backoff_grows_to_its_cap() -> None:
    assert backoff(0) == 0
    for failures, middle in ((1, 0.1), (2, 0.2), (5, 1.6), (50, BACKOFF_MOST), (10_000, BACKOFF_MOST)):
        assert all(0.8 * middle <= backoff(failures) <= 1.2 * middle for _ in range(50))
    assert len({backoff(3) for _ in range(20)}) > 1


@pytest.mark.parametrize(
    ("status", "text"),
    [
        (0, "ended by itself (exit code 0)"),
        (11 << 8, "crashed (exit code 11)"),
        (21 << 8, "could not begin: wrong configuration (exit code 21)"),
        (77 << 8, "ended (exit code 77)"),
        (signal.SIGKILL, "killed by SIGKILL"),
        (signal.SIGSEGV | 0x80, "killed by SIGSEGV"),
        (63, "killed by signal 63"),
    ],
)
def test_what_exits_are_called(status: int, text: str) -> None:
    assert describe_exit(status) == text


def test_what_operators_are_told() -> None:
    child = Child(2)
    child.pid = os.getpid()
    child.report = {"requests": 7}
    told = child.to_dict()
    assert (told["worker"], told["pid"], told["state"], told["requests"]) == (2, os.getpid(), "new", 7)
    assert "blocked" not in told
    assert repr(child) == f"<Child 2 new pid={os.getpid()}>"
