"""The socklet chat."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlencode

import pytest

import hemi.builtin.socklets.chat  # noqa: F401
from tests import webkit
from tests.web.websocket.wskit import WSClient, open_ws
from tests.webkit import Site, until


@contextmanager
def chatting(**properties: Any) -> Iterator[Site]:
    with webkit.running(webkit.config(rules=[{"socklets": [{"chat": properties}]}])) as site:
        yield site


def join(site: Site, name: str, room: str = "") -> WSClient:
    query = {"name": name, **({"room": room} if room else {})}
    return open_ws(site, f"/?{urlencode(query)}")


def hear(ws: WSClient) -> dict[str, Any]:
    told = json.loads(ws.receive())
    told.pop("at", None)
    return told  # type: ignore[no-any-return]


def test_people_talk() -> None:
    with chatting() as site, join(site, "Ann") as ann:
        assert hear(ann) == {"type": "welcome", "name": "Ann", "members": ["Ann"], "history": []}
        ann.send('{"say": "hello?"}')
        assert hear(ann) == {"type": "said", "name": "Ann", "text": "hello?"}
        with join(site, "Bö") as bob:
            welcome = hear(bob)
            assert (welcome["members"], welcome["history"][0]["text"]) == (["Ann", "Bö"], "hello?")
            assert hear(ann) == {"type": "joined", "name": "Bö"}
            bob.send('{"say": "<b>hi</b>"}')
            for one in (ann, bob):
                assert hear(one) == {"type": "said", "name": "Bö", "text": "<b>hi</b>"}
            bob.close()
            bob.end()
        assert hear(ann) == {"type": "left", "name": "Bö"}
        with join(site, "Cid", "elsewhere") as cid:
            assert hear(cid)["members"] == ["Cid"]
        ann.close()
        ann.end()
        socklet = site.stage.members["webapps"]["app"].rules[0].socklets[0]  # type: ignore[attr-defined]
        until(lambda: not socklet.rooms)


@pytest.mark.parametrize(
    "message", ["x", "[]", '"a"', "{}", '{"say": 5}', '{"say": " "}', b"\xff", "[" * 30_000]
)
def test_nonsense(message: str | bytes) -> None:
    with chatting() as site, join(site, "Ann") as ann:
        hear(ann)
        ann.send(message)
        assert hear(ann)["why"] == 'a message must be {"say": "text"}'


def test_limits() -> None:
    with chatting(max_members=1, max_rooms=1, max_text=5, max_rate=0.1) as site, join(site, "Ann") as ann:
        hear(ann)
        for name, room, code in (
            ("Ann", "", 4001),
            ("Bob", "", 4002),
            ("Bob", "other", 4002),
            ("", "", 4000),
        ):
            with join(site, name, room) as other:
                assert other.end()[0] == code
        with join(site, "x" * 65) as other:
            assert other.end()[0] == 4000
        with join(site, "a", "b\nc") as other:
            assert other.end()[0] == 4000
        ann.send('{"say": "123456"}')
        assert hear(ann)["why"] == "say at most 5 characters at once"
        for _ in range(5):
            ann.send('{"say": "x"}')
            assert hear(ann)["type"] == "said"
        ann.send('{"say": "x"}')
        assert hear(ann)["why"] == "you speak too fast"
