"""A fresh clone, and what is started in it."""

from __future__ import annotations

from pathlib import Path

from tests.running import TOP_DIR, GoroxProcess, require_program, run

PIP = {"PIP_NO_COMPILE": "1", "PIP_DISABLE_PIP_VERSION_CHECK": "1"}
"""The environment of pip: to compile what nobody will run takes half of its time."""


def clone_into(folder: Path) -> Path:
    """What is committed, in a folder with a space in its name."""
    require_program("git", "git")
    folder = folder / "fresh clone"
    done = run(["git", "clone", "-q", "--depth", "1", f"file://{TOP_DIR}", str(folder)])
    assert done.returncode == 0, done.stderr
    # The one thing that differs from what a newcomer has: tests take no fixed port.
    config = folder / "conf" / "gorox.yaml"
    config.write_text(config.read_text().replace('":3080"', '"127.0.0.1:0"'))
    return folder


def start(clone: Path, folder: Path, command: list[str], timeout: float) -> GoroxProcess:
    folder.mkdir()
    process = GoroxProcess(folder, None, command=command, cwd=clone, wait=False, env=PIP)
    try:
        process.wait_ready(timeout)
    except AssertionError:
        process.kill()
        raise
    return process
