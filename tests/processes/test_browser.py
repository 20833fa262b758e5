"""A browser opens the welcome page."""

from __future__ import annotations

import re
import struct
from collections.abc import Callable
from pathlib import Path

from tests.running import TOP_DIR, GoroxProcess, require_program, run, until

CONFIG = (TOP_DIR / "conf" / "gorox.yaml").read_text()


def browse(folder: Path, *arguments: str) -> str:
    """Runs Chromium without a screen and without anything that calls home; returns what it prints."""
    done = run(
        [
            require_program("chromium", "chromium"),
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-quic",
            "--no-first-run",
            "--disable-background-networking",
            "--disable-component-update",
            "--disable-sync",
            f"--user-data-dir={folder / 'browser'}",
            *arguments,
        ],
        timeout=90,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_welcome_page(gorox: Callable[..., GoroxProcess], tmp_path: Path) -> None:
    config = CONFIG.replace('":3080"', '"127.0.0.1:0"').replace(
        "apps/welcome", str(TOP_DIR / "apps" / "welcome")
    )
    process = gorox(config)
    page = browse(tmp_path, "--dump-dom", "--virtual-time-budget=2000", process.url)
    assert "<h1>Gorox is running</h1>" in page
    assert re.search(r"Answered in [\d.]+ ms over HTTP/1\.1", page), "its script ran"
    assert "http://" not in re.sub(r"https?://www\.w3\.org", "", page), "nothing is loaded from elsewhere"
    picture = tmp_path / "welcome.png"
    browse(tmp_path, f"--screenshot={picture}", "--window-size=1200,1300", process.url)
    data = picture.read_bytes()
    assert struct.unpack(">II", data[16:24]) == (1200, 1300)
    assert len(data) > 50_000, "an empty page has far less"
    assert until(lambda: '"GET /favicon' in process.out.read_text()), "browsers ask for the icon"
    assert '" 404 ' not in process.out.read_text()
