"""The leader's log lines."""

from __future__ import annotations

import os
import re

import pytest

from hemi.procmgr.log import Log


def test_lines(capsys: pytest.CaptureFixture[str]) -> None:
    log = Log()
    log.debug("nothing")
    log.info("one")
    log.error("two", ValueError("why"))
    first, second, third = capsys.readouterr().err.splitlines()
    stamp = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}[+-]\d\d:\d\d"
    assert re.fullmatch(rf"{stamp} info {os.getpid()} leader: one", first)
    assert re.fullmatch(rf"{stamp} error {os.getpid()} leader: two", second)
    assert third == "    ValueError: why"


def test_debug(capsys: pytest.CaptureFixture[str]) -> None:
    Log(debug=1).debug("something")
    assert "debug" in capsys.readouterr().err


def test_nobody_reads(monkeypatch: pytest.MonkeyPatch) -> None:
    class Broken:
        def write(self, text: str) -> None:
            raise BrokenPipeError

    monkeypatch.setattr("sys.stderr", Broken())
    Log().info("lost")
