"""Whom workers become."""

from __future__ import annotations

import os
import pwd
from pathlib import Path

import pytest

from hemi.errors import EnvError, UsageError
from hemi.procmgr.privileges import Identity, check_root, drop, find, hand_over

need_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")


def test_nobody_is_named() -> None:
    assert find(None, None) is None


@need_root
def test_names_and_numbers() -> None:
    nobody = pwd.getpwnam("nobody")
    assert find("nobody", None) == Identity(nobody.pw_uid, nobody.pw_gid, "nobody")
    assert find(str(nobody.pw_uid), "7") == Identity(nobody.pw_uid, 7, "nobody")
    assert find("54321", "7") == Identity(54321, 7, "")


@pytest.mark.parametrize(
    ("user", "group", "text"),
    [
        ("no-such", None, "--user no-such: there is no such user"),
        (None, "no-such", "--group no-such: there is no such group"),
        ("54321", None, "--group must be given too"),
    ],
)
def test_unknown_ones(user: str | None, group: str | None, text: str) -> None:
    with pytest.raises(UsageError, match=text):
        find(user, group)


def test_root_must_be_meant(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    with pytest.raises(UsageError, match="--allow-root"):
        check_root(None, allowed=False)
    assert "run as root" in check_root(None, allowed=True)
    assert check_root(Identity(65534, 65534, "nobody"), allowed=False) == ""
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert check_root(None, allowed=False) == ""


def test_only_root_can_name_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 54321)
    with pytest.raises(EnvError, match="need a leader that runs as root"):
        find("root", None)


@need_root
def test_privileges_are_gone_for_good() -> None:
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            drop(find("nobody", None))
            try:
                os.setuid(0)
                os.write(writer, b"root again")
            except PermissionError:
                os.write(writer, repr((os.getresuid(), os.getresgid(), os.getgroups())).encode())
        finally:
            os._exit(0)
    os.close(writer)
    nobody = pwd.getpwnam("nobody")
    uid, gid = nobody.pw_uid, nobody.pw_gid
    assert os.read(reader, 1000).decode() == repr(((uid,) * 3, (gid,) * 3, [gid]))
    os.close(reader)
    os.waitpid(pid, 0)


@need_root
def test_only_fresh_directories_are_handed_over(tmp_path: Path) -> None:
    fresh, used = tmp_path / "fresh", tmp_path / "used"
    for folder in (fresh, used):
        folder.mkdir()
    (used / "file").touch()
    hand_over(Identity(65534, 65534, "nobody"), [str(fresh), str(used)])
    assert (fresh.stat().st_uid, used.stat().st_uid) == (65534, 0)
    hand_over(None, [str(fresh)])
