"""Changes, as far as they can be looked at alone. The rest is in tests/processes: real workers, real load."""

from __future__ import annotations

import os
from typing import Any

import pytest

from hemi.procmgr import changes
from hemi.procmgr.child import Child
from hemi.procmgr.loop import CommandError, Steps, Task, Until, until


class Crew:
    leaving = False


class Leader:
    """As much of a leader as the turn of a change needs."""

    def __init__(self) -> None:
        self.crew = Crew()
        self.changing = ""
        self.next_reload: changes.Outcome | None = None


def test_one_change_at_a_time() -> None:
    leader: Any = Leader()
    first = changes._turn(leader, "reload")
    next(first)
    with pytest.raises(StopIteration):
        first.send(True)
    assert leader.changing == "reload"
    second = changes._turn(leader, "rework")
    assert next(second).data["text"] == "waiting for reload"  # type: ignore[union-attr]
    wait = next(second)
    assert isinstance(wait, Until)
    assert not wait.condition()
    leader.changing = ""
    assert wait.condition()
    with pytest.raises(StopIteration):
        second.send(True)
    assert leader.changing == "rework"


def test_a_change_gives_up_in_the_end_and_at_the_end() -> None:
    leader: Any = Leader()
    leader.changing = "rework"
    late = changes._turn(leader, "reload")
    next(late)
    next(late)
    with pytest.raises(CommandError, match="no reload now: a rework takes too long"):
        late.send(False)
    leader.crew.leaving = True
    with pytest.raises(CommandError, match="the instance is stopping"):
        list(changes._turn(leader, "reload"))


@pytest.mark.parametrize("failure", [None, CommandError("no", ["why"])])
def test_reloads_that_wait_are_one(monkeypatch: pytest.MonkeyPatch, failure: CommandError | None) -> None:
    def in_turn(leader: Any) -> Steps:
        yield until(lambda: True)
        if failure is not None:
            raise failure
        return {"seconds": 1}

    monkeypatch.setattr(changes, "_reload_in_turn", in_turn)
    leader: Any = Leader()
    ends: list[Any] = []
    tasks = [Task(changes.reload(leader), lambda *end: ends.append(end), None) for _ in range(3)]
    while len(ends) < 3:
        for task in reversed(tasks):
            task.advance(0.0)
    assert [error for _, error in ends] == [failure] * 3
    assert [answer for answer, _ in ends] == [None if failure else {"seconds": 1}] * 3


def test_a_reload_that_breaks_off_is_nobodys_success(monkeypatch: pytest.MonkeyPatch) -> None:
    def in_turn(leader: Any) -> Steps:
        yield until(lambda: True)
        raise RuntimeError("a bug")

    monkeypatch.setattr(changes, "_reload_in_turn", in_turn)
    leader: Any = Leader()
    first, second = changes.reload(leader), changes.reload(leader)
    next(first)
    next(second)
    wait = next(second)
    assert isinstance(wait, Until) and not wait.condition()
    with pytest.raises(RuntimeError):
        first.send(True)
    assert wait.condition()
    with pytest.raises(CommandError, match="was broken off"):
        second.send(True)


def test_process_1_is_not_upgraded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "getpid", lambda: 1)
    with pytest.raises(CommandError, match="process 1 cannot be upgraded"):
        list(changes.upgrade(None))  # type: ignore[arg-type]


def test_the_same_problems_are_told_once() -> None:
    one, two = Child(1), Child(2)
    assert changes._lines([(one, "bad", ["a", "b"]), (two, "bad", ["a", "b"])]) == ["bad", "a", "b"]
    assert changes._lines([(one, "bad", ["a"]), (two, "worse", [])]) == [
        "worker 1: bad",
        "worker 1: a",
        "worker 2: worse",
    ]
