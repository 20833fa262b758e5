"""The socklet hello."""

from __future__ import annotations

import hemi.builtin.socklets.hello  # noqa: F401
from tests import webkit
from tests.web.websocket.wskit import open_ws


def test_it_greets_and_ends() -> None:
    rules = [{"socklets": [{"hello": {"greeting": "grüezi"}}]}]
    with webkit.running(webkit.config(rules=rules)) as site, open_ws(site) as ws:
        assert ws.receive() == "grüezi"
        assert ws.end() == (1000, "")
