"""Files that are read again when they have changed."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from hemi.library.watchedfile import INTERVAL, WatchedFile


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def old(path: Path, ago: float = 10) -> None:
    """Makes the file an old one."""
    found = path.stat()
    os.utime(path, ns=(found.st_atime_ns, found.st_mtime_ns - int(ago * 1e9)))


def test_changes_are_seen(tmp_path: Path) -> None:
    path, clock, reads = tmp_path / "file", Clock(), []
    path.write_text("1")
    old(path)
    watched = WatchedFile(str(path), lambda text: reads.append(text) or int(text), [].append, clock)
    assert watched.get() == 1
    path.write_text("2")
    assert watched.get() == 1
    clock.now += INTERVAL
    assert watched.get() == 2
    old(path)
    for _ in range(3):
        clock.now += INTERVAL
        assert watched.get() == 2
    assert reads == ["1", "2", "2"]  # the young one once more


def test_what_was_right_goes_on(tmp_path: Path) -> None:
    path, clock, complaints = tmp_path / "file", Clock(), []
    path.write_text("1")
    watched = WatchedFile(str(path), int, complaints.append, clock)

    def look() -> int:
        clock.now += INTERVAL
        return watched.get()

    path.write_text("x")
    assert [look(), look()] == [1, 1] and len(complaints) == 1
    assert complaints[0].startswith(
        f"{path} cannot be read again, what it was before goes on: invalid literal"
    )
    path.unlink()
    assert [look(), look()] == [1, 1] and complaints[1].endswith("No such file or directory")
    path.write_text("3")
    assert look() == 3 and len(complaints) == 2
    path.unlink()
    assert look() == 3 and len(complaints) == 3


def test_what_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        WatchedFile(str(tmp_path / "missing"), int, print)
    os.mkfifo(tmp_path / "fifo")
    with pytest.raises(ValueError, match="not a regular file"):
        WatchedFile(str(tmp_path / "fifo"), int, print)
    (tmp_path / "bytes").write_bytes(b"\xff")
    with pytest.raises(ValueError, match="utf-8"):
        WatchedFile(str(tmp_path / "bytes"), int, print)
