"""What a newcomer does: the README's commands in a fresh clone."""

from __future__ import annotations

import os
import re
import shutil
import signal
import sys
from pathlib import Path

import pytest
import requests

from tests.processes.installkit import clone_into, start
from tests.running import TOP_DIR, run

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return clone_into(tmp_path_factory.mktemp("newcomer"))


def readme_commands() -> list[str]:
    blocks = re.findall(r"^```sh\n(.*?)^```", (TOP_DIR / "README.md").read_text(), re.M | re.S)
    return [line.partition(" #")[0].strip() for block in blocks for line in block.splitlines()]


def test_the_commands_of_the_readme(clone: Path, tmp_path: Path) -> None:
    commands = readme_commands()
    assert commands[:2] == ["./toolkit/run", "./toolkit/test"], "the two commands come first"
    for turn, timeout in (("first", 400), ("again", 20)):
        process = start(clone, tmp_path / turn, ["./toolkit/run"], timeout)
        try:
            answer = requests.get(process.url, timeout=10)
            assert "Gorox is running" in answer.text
            if turn == "first":
                assert "installing" in process.log()
            else:
                assert "installing" not in process.log(), "a later run starts at once"
            process.signal(signal.SIGTERM)
            assert process.wait() == 0
        finally:
            process.kill()
    # The second command is what runs this test, in a fresh clone of .ci/run's: here it would install all of it again.
    for command in commands[2:]:
        if command.startswith("bin/"):
            done = run(command.split(), cwd=clone)
            assert done.returncode == 0, f"{command}: {done.stderr}"
    status = run(["git", "status", "--porcelain"], cwd=clone).stdout.split("\n")
    assert [line for line in status if line and "conf/gorox.yaml" not in line] == [], "nothing is left behind"


def test_an_interrupted_installation_recovers(tmp_path: Path) -> None:
    """Down to the point where pip would run: a half-made environment is made anew."""
    folder = tmp_path / "half"
    (folder / "toolkit").mkdir(parents=True)
    for name in ("setup.cfg", "pyproject.toml", "toolkit/venv"):
        shutil.copy(TOP_DIR / name, folder / name)
    (folder / ".venv" / "bin").mkdir(parents=True)
    (folder / ".venv" / "bin" / "python").symlink_to(sys.executable)
    env = {
        **os.environ,
        "PIP_NO_INDEX": "1",
        "PIP_FIND_LINKS": "",
        "PIP_EXTRA_INDEX_URL": "",
        "PIP_CONFIG_FILE": "/dev/null",
    }
    done = run(["toolkit/venv", "all"], cwd=folder, env=env, timeout=120)
    assert done.returncode == 22
    assert "pip failed: see above; the same command tries again" in done.stderr
    assert not (folder / ".venv" / "gorox-stamp").exists()


def test_no_python_is_told(tmp_path: Path) -> None:
    (tmp_path / "toolkit").mkdir()
    for name in ("setup.cfg", "pyproject.toml", "toolkit/venv"):
        shutil.copy(TOP_DIR / name, tmp_path / name)
    programs = tmp_path / "bin"
    programs.mkdir()
    for name in ("sh", "dirname", "cat", "cksum", "grep", "tr"):
        found = shutil.which(name)
        assert found
        (programs / name).symlink_to(found)
    (programs / "python3").write_text("#!/bin/sh\nexit 1\n")  # as one that is too old answers
    (programs / "python3").chmod(0o755)
    done = run(["toolkit/venv", "all"], cwd=tmp_path, env={"PATH": str(programs)})
    assert done.returncode == 21
    assert "no Python from 3.11 to 3.14 was found" in done.stderr
    assert "apt install python3" in done.stderr
