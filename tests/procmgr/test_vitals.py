"""What the system says about processes."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from hemi.procmgr import vitals as module
from hemi.procmgr.vitals import Vitals, count_oom_kills


def test_ourselves() -> None:
    vitals = Vitals()
    told = vitals.of(os.getpid())
    assert told["rss"] > 1 << 20
    assert told["fds"] > 3
    assert told["threads"] >= 1
    assert set(told) == {"rss", "cpu", "fds", "threads"}
    vitals.forget(os.getpid())
    vitals.forget(os.getpid())


def test_nobody() -> None:
    assert Vitals().of(2**22 + 1) == {}


@pytest.mark.parametrize(
    ("text", "count"), [("low 0\noom 3\noom_kill 2\n", 2), ("oom_kill many\n", 0), ("", 0), (None, 0)]
)
def test_kills_for_lack_of_memory(
    text: str | None, count: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if text is not None:
        (tmp_path / "events").write_text(text)
    monkeypatch.setattr(module, "_EVENTS", str(tmp_path / "events"))
    assert count_oom_kills() == count
