"""Socklets in rules: alone, beside handlets, one after another, and those that refuse."""

from __future__ import annotations

import pytest

import hemi.builtin.handlets.access
import hemi.builtin.handlets.static
import hemi.builtin.socklets.echo
import hemi.builtin.socklets.hello  # noqa: F401
from hemi import component as registry
from hemi.config import load_mapping
from hemi.errors import ConfigError
from hemi.source import Dirs
from hemi.web.errors import HTTPError
from hemi.web.request import Request
from hemi.web.socklet import Socklet
from hemi.web.websocket import WebSocket
from tests import webkit
from tests.web.websocket.wskit import FIELDS, open_ws


class Guarded(Socklet, sign="guarded_socklet"):
    """Asks for a key."""

    def admit(self, req: Request) -> bool:
        if req.query("key") is None:
            raise HTTPError(401, "A key is needed.")
        return req.query("key") == "right"

    def serve(self, ws: WebSocket) -> None:
        ws.send("guarded")


_guarded = registry._registry["socklets"].pop("guarded_socklet", Guarded)


def test_rules(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(registry._registry["socklets"], "guarded_socklet", _guarded)
    rules = [
        {"if": '$path == "/both" and $header_upgrade == "websocket"', "socklets": "hello"},
        {"if": '$path == "/both"', "handlets": [webkit.scripted(webkit.hello)]},
        {"if": '$path ^= "/guarded"', "socklets": ["guarded_socklet", "shared"]},
        {"socklets": "echo"},
    ]
    webapp = {"socklets": {"shared": {"type": "hello", "greeting": "shared"}}}
    with webkit.running(webkit.config(rules=rules, webapp=webapp)) as site:
        assert site.get("/both").content == b"hello"
        with open_ws(site, "/both") as ws:
            assert ws.receive() == "hello"
        with open_ws(site, "/guarded?key=right") as ws:
            assert ws.receive() == "guarded"
        with open_ws(site, "/guarded?key=wrong") as ws:
            assert ws.receive() == "shared"
        with site.connect() as client:
            client.request("GET", "/guarded", FIELDS)
            assert client.answer().status == 401
        assert site.get("/").status == 426
        with open_ws(site) as ws:
            ws.send("x")
            assert ws.receive() == "x"


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"return_code": 200}, "must have either handlets or socklets, or return_code"),
        ({"handlets": "static"}, "socklets must not stand beside handlets"),
    ],
)
def test_a_rule_does_one_thing(more: dict[str, object], message: str) -> None:
    mapping = webkit.config(rules=[{"socklets": "echo", **more}])
    with pytest.raises(ConfigError, match=message):
        load_mapping(mapping, Dirs("/tmp", "/tmp", "/tmp", "/tmp"))


def test_what_guards_stands_before() -> None:
    rules = [{"handlets": [{"access": {"deny": ["127.0.0.0/8"]}}]}, {"socklets": "echo"}]
    with webkit.running(webkit.config(rules=rules)) as site, site.connect() as client:
        client.request("GET", "/", FIELDS)
        assert client.answer().status == 403
