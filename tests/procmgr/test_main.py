from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from hemi import __version__
from hemi.errors import BugError, EnvError
from hemi.procmgr import main as module
from hemi.procmgr.main import main
from hemi.procmgr.program import GOROX, Program

HARMLESS = Program(name="harmless", title="A program for tests", config="c.yaml")


def test_version(capsys: Any) -> None:
    assert main(GOROX, ["version"]) == 0
    assert capsys.readouterr().out.startswith(f"gorox {__version__} ")


def test_help(capsys: Any) -> None:
    assert main(HARMLESS, ["help"]) == 0
    assert "usage: harmless" in capsys.readouterr().out


def test_usage_errors_are_21(capsys: Any) -> None:
    assert main(HARMLESS, ["nonsense"]) == 21
    assert capsys.readouterr().err == 'harmless: unknown action "nonsense"; see: harmless help\n'


def test_check(capsys: Any, tmp_path: Path) -> None:
    assert main(HARMLESS, ["check"], top_dir=str(tmp_path)) == 21
    assert "there is no c.yaml" in capsys.readouterr().err
    (tmp_path / "c.yaml").write_text("drain_timeout: 1s\n")
    assert main(HARMLESS, ["check"], top_dir=str(tmp_path)) == 0
    assert capsys.readouterr().out == "the configuration is fine\n"
    (tmp_path / "c.yaml").write_text("drain_timeout: soon\ndrain: 1\n")
    assert main(HARMLESS, ["check"], top_dir=str(tmp_path)) == 1
    captured = capsys.readouterr()
    assert len(captured.err.splitlines()) == 2
    assert captured.out == ""


@pytest.mark.parametrize(
    ("error", "code", "told"),
    [
        (EnvError("no room"), 22, "harmless: no room\n"),
        (BugError("impossible"), 20, "harmless: impossible\n"),
        (KeyboardInterrupt(), 10, ""),
    ],
)
def test_codes(monkeypatch: Any, capsys: Any, error: BaseException, code: int, told: str) -> None:
    def fail(*arguments: object) -> int:
        raise error

    monkeypatch.setitem(module._ACTIONS, "version", fail)
    assert main(HARMLESS, ["version"]) == code
    assert capsys.readouterr().err == told


def test_a_crash_is_11_and_shown(monkeypatch: Any, capsys: Any) -> None:
    def fail(*arguments: object) -> int:
        raise ZeroDivisionError("whatever")

    monkeypatch.setitem(module._ACTIONS, "version", fail)
    assert main(HARMLESS, ["version"]) == 11
    assert "ZeroDivisionError: whatever" in capsys.readouterr().err


def test_the_current_directory_is_left_alone(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.chdir(tmp_path)
    main(HARMLESS, ["check"])
    assert os.listdir(tmp_path) == []
