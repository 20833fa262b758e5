"""Two browsers talk by the chat of the examples."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

from websockets.sync.client import connect

from tests.processes.test_browser import browse
from tests.running import TOP_DIR, GoroxProcess, until

CONFIG = (TOP_DIR / "conf" / "examples" / "chat.yaml").read_text()
WELCOME = {"type": "welcome", "name": "Ann", "members": ["Ann"], "history": []}


def test_the_chat(gorox: Callable[..., GoroxProcess], tmp_path: Path) -> None:
    folder = TOP_DIR / "apps" / "examples" / "chat"
    process = gorox(CONFIG.replace('":3080"', '"127.0.0.1:0"').replace("apps/examples/chat", str(folder)))
    with connect(f"ws://{process.address}/ws?name=Ann", origin=process.url) as ann:
        assert json.loads(ann.recv(10)) == WELCOME
        ann.send(json.dumps({"say": "<i>who</i> is there?"}))
        page = browse(
            tmp_path,
            "--dump-dom",
            "--virtual-time-budget=5000",
            f"{process.url}/?name=Bob",
        )
        told = [json.loads(ann.recv(10)) for _ in range(3)]
        assert [one["type"] for one in told] == ["said", "joined", "left"]
        assert told[1]["name"] == "Bob"
        assert "&lt;i&gt;who&lt;/i&gt; is there?" in page, "text, not HTML"
        assert "<li>Ann</li><li>Bob</li>" in page
        assert "connected as Bob" in page
        picture = tmp_path / "chat.png"
        browse(
            tmp_path,
            f"--screenshot={picture}",
            "--window-size=900,500",
            "--virtual-time-budget=5000",
            f"{process.url}/?name=Eve",
        )
        assert len(picture.read_bytes()) > 10_000
    assert until(lambda: process.out.read_text().count('/ws?name=Bob&room=lobby HTTP/1.1" 101 in=') == 1)
    assert not process.log()
