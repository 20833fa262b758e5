"""Redirections, and the attacks on them."""

from __future__ import annotations

from typing import Any

import pytest

import hemi.builtin  # noqa: F401  registers its components
from hemi.builtin.handlets.redirect import keep_here
from hemi.errors import ConfigError
from tests.webkit import config, load, serve


def location(target: str, **props: Any) -> str | None:
    with serve(rules=[{"handlets": [{"redirect": props}]}]) as site:
        return site.get(target).header("location")


@pytest.mark.parametrize("code", [301, 302, 303, 307, 308])
def test_codes(code: int) -> None:
    with serve(rules=[{"handlets": [{"redirect": {"to": "/new", "code": code}}]}]) as site:
        answer = site.get("/old")
        assert (answer.status, answer.header("location"), answer.content) == (code, "/new", b"")


@pytest.mark.parametrize(
    ("to", "target", "expected"),
    [
        ("/new", "/old", "/new"),
        ("/new", "/old?a=1", "/new?a=1"),
        ("/new?b=2", "/old?a=1", "/new?b=2"),
        ("/new#part", "/old?a=1", "/new?a=1#part"),
        ("https://www.example.com$uri", "/a%20b?x=%2F", "https://www.example.com/a%20b?x=%2F"),
        ("https://www.example.com$path", "/gr%C3%BC%C3%9Fe", "https://www.example.com/gr%C3%BC%C3%9Fe"),
        ("https://$(query_site).example.com/", "/?site=de", "https://de.example.com/?site=de"),
    ],
)
def test_targets(to: str, target: str, expected: str) -> None:
    assert location(target, to=to) == expected


def test_without_the_query() -> None:
    assert location("/old?a=1", to="/new", keep_query=False) == "/new"


@pytest.mark.parametrize("to", ["$encoded_path", "$uri", "/$query_next", "$query_next"])
@pytest.mark.parametrize(
    "attack", ["//evil.example", "/\\evil.example", "\\\\evil.example", "/%5cevil.example"]
)
def test_no_open_redirect(to: str, attack: str) -> None:
    for target in (f"{attack}", f"/?next={attack}"):
        if not target.startswith("/"):
            continue
        found = location(target, to=to, keep_query=False)
        assert found is not None
        assert found[:2] not in ("//", "/\\", "\\\\", "\\/") and "://" not in found


def test_no_response_splitting() -> None:
    with serve(rules=[{"handlets": [{"redirect": {"to": "/$query_next", "keep_query": False}}]}]) as site:
        answer = site.get("/?next=a%0d%0aSet-Cookie:%20x=1")
        assert answer.header("set-cookie") is None
        assert answer.header("location") == "/a%0D%0ASet-Cookie:%20x=1"


def test_keep_here() -> None:
    assert keep_here("///a//b") == "/a//b"
    assert keep_here("/a") == "/a"
    assert keep_here("https://a/") == "https://a/"


@pytest.mark.parametrize("to", ["", "new", "www.example.com/"])
def test_problems(to: str) -> None:
    with pytest.raises(ConfigError, match="to must"):
        load(config(rules=[{"handlets": [{"redirect": {"to": to}}]}]))
