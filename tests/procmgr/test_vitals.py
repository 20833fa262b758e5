"""What the system says about processes."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

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
@pytest.mark.parametrize(
    ("groups", "file"),
    [
        ("0::/\n", "memory.events"),
        ("0::/system.slice/gorox.service\n", "system.slice/gorox.service/memory.events"),
        ("0::/docker/1234\n", "memory.events"),
        ("4:cpu,memory:/docker/1234\n0::/\n", "memory/docker/1234/memory.oom_control"),
        ("4:memory:/docker/1234\n", "memory/memory.oom_control"),
        ("", "memory.events"),
    ],
)
def test_kills_for_lack_of_memory(
    text: str | None, count: int, groups: str, file: str, tmp_path: Path
) -> None:
    (tmp_path / "proc/self").mkdir(parents=True)
    (tmp_path / "proc/self/cgroup").write_text(groups)
    path = tmp_path / "sys/fs/cgroup" / file
    path.parent.mkdir(parents=True)
    if text is not None:
        path.write_text(text)
    assert count_oom_kills(str(tmp_path)) == count
