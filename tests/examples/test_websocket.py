"""The example of WebSockets does what its comments say. The chat's is in tests/processes/test_chat.py."""

from __future__ import annotations

import yaml

import hemi.builtin  # noqa: F401
from tests import webkit
from tests.running import TOP_DIR
from tests.web.websocket.wskit import FIELDS, open_ws, serving


def test_websocket_yaml() -> None:
    mapping = yaml.safe_load((TOP_DIR / "conf" / "examples" / "websocket.yaml").read_text())
    assert mapping["servers"]["main"]["address"] == ":3080"
    mapping["servers"]["main"]["address"] = "127.0.0.2:0"
    with serving(lambda ws: ws.send("live")) as origin:
        mapping["backends"]["live"]["nodes"] = [{"address": origin.address}]
        with webkit.running(mapping) as site:
            with open_ws(site, "/hello", Origin="https://app.example.com") as ws:
                assert ws.receive() == "good morning"
            with open_ws(site, "/echo", Sec_WebSocket_Protocol="v1.echo", deflate=True) as ws:
                assert (ws.subprotocol, ws.extensions) == ("v1.echo", None)
                ws.send("x" * 1_048_577)
                assert ws.end()[0] == 1009
            with open_ws(site, "/live") as ws:
                assert ws.receive() == "live"
            assert site.get("/live").header("location") == "/"
            assert site.get("/").content == b"WebSockets: /hello /echo /live"
            with site.connect() as client:
                client.request("GET", "/hello", {**FIELDS, "Origin": "https://evil.example"})
                assert client.answer().status == 403
