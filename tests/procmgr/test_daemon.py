"""Pid files and the starter's report. Whole daemons are in tests/processes."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from hemi.errors import EnvError
from hemi.procmgr.daemon import PidFile, Starter
from tests.running import TOP_DIR, run


def test_a_pid_file(tmp_path: Path) -> None:
    path = tmp_path / "pid"
    one, two = PidFile(str(path)), PidFile(str(path))
    one.take()
    assert path.read_text() == f"{os.getpid()}\n"
    with pytest.raises(EnvError, match=f"process {os.getpid()} is running already"):
        two.take()
    two.take(successor=True)
    one.remove()
    one.remove()


def test_a_stale_one_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "pid"
    path.write_text("1\n")
    file = PidFile(str(path))
    file.take()
    assert path.read_text() == f"{os.getpid()}\n"
    path.write_text("1\n")
    file.remove()
    assert path.exists()  # it is another leader's by now


def test_links_are_not_followed(tmp_path: Path) -> None:
    precious = tmp_path / "precious"
    precious.write_text("keep")
    (tmp_path / f"pid.{os.getpid()}").symlink_to(precious)
    file = PidFile(str(tmp_path / "pid"))
    file.take()
    file.remove()
    assert precious.read_text() == "keep"


def test_a_folder_that_is_not_there() -> None:
    with pytest.raises(EnvError, match="cannot write /no/such/pid"):
        PidFile("/no/such/pid").take()


def test_only_the_first_report_counts() -> None:
    reader, writer = os.pipe()
    starter = Starter(writer)
    starter.report(3, "why")
    starter.report(4, "late")
    assert os.read(reader, 100) == b"\x03why"
    os.close(reader)


@pytest.mark.parametrize(
    ("does", "code", "out", "err"),
    [
        ("starter.report(0, 'up')", 0, "up\n", ""),
        ("starter.report(21, 'wrong')", 21, "", "wrong\n"),
        ("pass", 11, "", "the daemon ended without a word; see its log files\n"),
    ],
)
def test_the_starter_waits_for_a_verdict(does: str, code: int, out: str, err: str) -> None:
    script = f"from hemi.procmgr.daemon import detach\nstarter = detach()\n{does}\n"
    done: subprocess.CompletedProcess[str] = run([sys.executable, "-c", script], cwd=TOP_DIR)
    assert (done.returncode, done.stdout, done.stderr) == (code, out, err)
