"""The registry of commands. What they do to an instance is in tests/processes."""

from __future__ import annotations

from typing import Any

import pytest

from hemi.procmgr import commands
from hemi.procmgr.commands import COMMANDS, begin, command
from hemi.procmgr.loop import CommandError, Steps, Task, pause


@pytest.fixture(autouse=True)
def registry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(commands, "COMMANDS", dict(COMMANDS))


def run_command(name: str, args: dict[str, Any]) -> tuple[Any, Exception | None]:
    ends: list[tuple[Any, Exception | None]] = []
    task = Task(begin(None, name, args), lambda answer, error: ends.append((answer, error)), None)  # type: ignore[arg-type]
    task.advance(0.0)
    task.advance(1e18)
    return ends[0]


def test_plain_functions_and_generators() -> None:
    @command("plain")
    def plain(leader: Any, args: dict[str, Any]) -> dict[str, Any]:
        return {"got": args}

    @command("waiting")
    def waiting(leader: Any, args: dict[str, Any]) -> Steps:
        yield pause(1)
        return {"got": args}

    assert run_command("plain", {"x": 1}) == ({"got": {"x": 1}}, None)
    assert run_command("waiting", {"x": 2}) == ({"got": {"x": 2}}, None)


def test_unknown_ones() -> None:
    answer, error = run_command("dance", {})
    assert answer is None
    assert isinstance(error, CommandError)
    assert str(error) == 'there is no action "dance"'


def test_the_actions_of_the_leader_are_there() -> None:
    assert {
        "pids",
        "leader",
        "worker",
        "stages",
        "reload",
        "rework",
        "upgrade",
        "workers",
        "reopen",
        "quit",
        "stop",
    } <= set(COMMANDS)


@pytest.mark.parametrize("count", [None, "2", True, 1.5])
def test_the_number_of_workers_is_a_number(count: object) -> None:
    _, error = run_command("workers", {"count": count})
    assert isinstance(error, CommandError)
    assert "must be a number" in str(error)
