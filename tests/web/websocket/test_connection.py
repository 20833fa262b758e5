"""What a WebSocket refuses of its app, and how it shows itself."""

from __future__ import annotations

import pytest

from hemi.web.websocket import WebSocket, WebSocketClosed
from tests.web.websocket.wskit import open_ws, serving


def test_what_can_be_sent() -> None:
    class Text(str):
        pass

    def app(ws: WebSocket) -> None:
        ws.send(Text("a"))
        ws.send(bytearray(b"b"))
        ws.send(memoryview(b"c"))
        with pytest.raises(TypeError, match="str or bytes, not int"):
            ws.send(5)  # type: ignore[arg-type]
        with pytest.raises(ValueError, match="125 bytes"):
            ws.ping(bytes(126))
        with pytest.raises(ValueError, match="close code"):
            ws.close(1006)
        with pytest.raises(ValueError, match="123"):
            ws.close(1000, "x" * 124)
        ws.state = {"user": "me"}
        assert repr(ws) == "<WebSocket open / from 127.0.0.1>"
        ws.close()
        assert repr(ws) == "<WebSocket closed 1000 / from 127.0.0.1>"
        assert not ws.offer(b"x")
        with pytest.raises(WebSocketClosed) as caught:
            ws.ping()
        assert (caught.value.code, caught.value.reason) == (1000, "")

    with serving(app) as site, open_ws(site) as ws:
        assert [ws.receive() for _ in range(3)] == ["a", b"b", b"c"]
        assert ws.end() == (1000, "")
        assert not site.log.of("error")


def test_what_is_known_of_it() -> None:
    def app(ws: WebSocket) -> None:
        ws.send(f"{ws.subprotocol} {ws.request.query('q')} {ws.close_code} {ws.closed}")

    with serving(app, subprotocols=["p"]) as site, open_ws(site, "/?q=1", Sec_WebSocket_Protocol="p") as ws:
        assert ws.receive() == "p 1 0 False"
        ws.end()
