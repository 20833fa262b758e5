"""The socklet echo."""

from __future__ import annotations

import hemi.builtin.socklets.echo  # noqa: F401
from tests import webkit
from tests.web.websocket.wskit import open_ws


def test_messages_come_back() -> None:
    with webkit.running(webkit.config(rules=[{"socklets": "echo"}])) as site, open_ws(site) as ws:
        for message in ("text", b"bytes", ""):
            ws.send(message)
            assert ws.receive() == message
        ws.close(1000)
        assert ws.end() == (1000, "")
