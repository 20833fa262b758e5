"""Profiles of several workers made one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from hemi.errors import EnvError
from hemi.procmgr.profileshow import functions, merge, save_cpu

ANSWER: dict[str, Any] = {
    "workers": [
        {"worker": 1, "pid": 1, "seconds": 2.0, "busy": 0.5, "stacks": [[["a", "b"], 3], [["a"], 1]]},
        {"worker": 2, "pid": 2, "seconds": 2.1, "busy": 0.25, "stacks": [[["a", "b"], 4]]},
        {"worker": 3, "pid": 3, "error": "gone", "details": []},
    ]
}


def test_stacks_add_up() -> None:
    assert merge(ANSWER) == {("a", "b"): 7, ("a",): 1}


def test_functions_by_what_they_take_themselves() -> None:
    assert functions({("a", "b", "a"): 3, ("a",): 1}) == [("a", 1.0, 1.0)]
    assert functions(merge(ANSWER)) == [("b", 0.875, 0.875), ("a", 0.125, 1.0)]
    assert functions({}) == []


def test_two_files_are_written(tmp_path: Path) -> None:
    told = save_cpu(ANSWER, str(tmp_path / "p.svg"))
    assert (told["samples"], told["workers_seen"], told["busy"]) == (8, 2, 0.75)
    assert Path(told["svg"]).read_text().startswith("<?xml")
    assert Path(told["stacks"]).read_text() == "a 1\na;b 7\n"
    assert "stacks" not in told["workers"][0]


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(EnvError, match="see --output"):
        save_cpu(ANSWER, str(tmp_path / "no" / "p.svg"))
