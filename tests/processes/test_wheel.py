"""The package in an empty environment."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests

from tests.processes.installkit import PIP, clone_into, start
from tests.running import run, until

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """An environment in which nothing but the wheel and what it requires is installed."""
    folder = tmp_path_factory.mktemp("empty")
    subprocess.run([sys.executable, "-m", "venv", str(folder / "env")], check=True, timeout=120)
    clone = clone_into(folder)
    command = [str(folder / "env/bin/pip"), "install", "-q", str(clone)]
    done = run(command, cwd=folder, timeout=400, env={**os.environ, **PIP})
    assert done.returncode == 0, done.stderr
    yield folder / "env" / "bin"


def test_the_wheel_in_an_empty_environment(installed: Path, tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    (tmp_path / "out").mkdir()
    gorox = str(installed / "gorox")
    assert run([gorox, "version"], cwd=empty).stdout.startswith("gorox ")
    assert run([gorox, "check"], cwd=empty).returncode == 0
    # The embedded configuration has the port that the documentation names.
    process = start(empty, tmp_path / "serving", [gorox, "--single"], 30)
    try:
        assert process.urls() == ["http://localhost:3080/"]
        assert "Gorox is running" in requests.get(process.url, timeout=10).text
        assert requests.get(f"{process.url}/favicon.ico", timeout=10).status_code == 200
        assert until(lambda: '"GET / HTTP/1.1" 200' in process.out.read_text()), (
            "the access log goes to stdout"
        )
        process.signal(signal.SIGTERM)
        assert process.wait() == 0
    finally:
        process.kill()
    assert os.listdir(empty) == [], "no directory is made without need"
