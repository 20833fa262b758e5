"""Where requests may come from."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import hemi.builtin  # noqa: F401  registers its components
from hemi.errors import ConfigError
from tests.webkit import config, hello, load, scripted, serve


def verdicts(props: dict[str, Any], referers: list[str | None]) -> str:
    """What each Referer gets: + for being let in."""
    with serve(rules=[{"handlets": [{"referer": props}, scripted(hello)]}]) as site:
        answers = [site.get(**({} if referer is None else {"Referer": referer})) for referer in referers]
        return "".join({200: "+", 403: "-"}[answer.status] for answer in answers)


NAMES = {
    "names": ["example.com", "*.example.org", "www.*", "shop.example/de/", "~\\.search\\.example/find"],
    "own": False,
}


@pytest.mark.parametrize(
    ("referer", "expected"),
    [
        ("http://example.com", "+"),
        ("https://example.com:8443/a?b#c", "+"),
        ("HTTPS://EXAMPLE.com./x", "+"),
        ("http://sub.example.com/", "-"),
        ("http://a.b.example.org/", "+"),
        ("http://example.org/", "-"),
        ("http://evilexample.org/", "-"),
        ("http://www.anything/", "+"),
        ("http://www/", "-"),
        ("http://shop.example/de/x", "+"),
        ("http://shop.example/en/x", "-"),
        ("http://shop.example", "-"),
        ("http://img.search.example/find?q=x", "+"),
        ("http://evil.example/?http://example.com/", "-"),
        ("http://evil.example#@example.com/", "-"),
        ("http://example.com@evil.example/", "-"),
        ("http://evil.example\\@example.com/", "-"),
        ("http://evil.example/example.com", "-"),
        ("http://evil.example?.search.example/find", "+"),  # a pattern is the user's own word
        ("http://a.example/", "-"),
        ("http:///example.com", "-"),
        ("//example.com/", "-"),
        ("ftp://example.com/", "-"),
        ("", "-"),
        (None, "-"),
    ],
)
def test_names(referer: str | None, expected: str) -> None:
    assert verdicts(NAMES, [referer]) == expected


SAMPLES = ["http://a.example/x", "http://b.example/", None, "hidden", "", "about:blank"]


@pytest.mark.parametrize(
    ("props", "expected"),
    [
        ({}, "+-----"),
        ({"own": True, "none": True}, "+-+---"),
        ({"own": True, "blocked": True}, "+--+++"),
        ({"own": False, "names": ["b.example"], "none": True, "blocked": True}, "-+++++"),
        ({"own": False, "names": ["*"]}, "++----"),
    ],
)
def test_own_none_and_blocked(props: dict[str, Any], expected: str) -> None:
    assert verdicts(props, SAMPLES) == expected


def test_the_status() -> None:
    with serve(rules=[{"handlets": [{"referer": {"status": 404}}]}]) as site:
        assert site.get(Referer="http://b.example/").status == 404
        assert site.log.of("info", "referer")[0].message == "127.0.0.1 came from elsewhere to GET / HTTP/1.1"


def test_names_of_other_scripts_and_addresses() -> None:
    props = {"names": ["bücher.example", "[::1]", "192.0.2.1"]}
    referers: list[str | None] = ["http://xn--bcher-kva.example/", "http://[::1]:80/", "http://192.0.2.1/"]
    assert verdicts(props, referers) == "+++"


@given(st.text(st.characters(min_codepoint=33, max_codepoint=126)))
def test_no_referer_makes_trouble(referer: str) -> None:
    stage = load(config(rules=[{"handlets": [{"referer": NAMES}]}]))
    handlet: Any = stage.members["webapps"]["app"].rules[0].handlets[0]  # type: ignore[attr-defined]
    handlet.prepare()
    request = type("Req", (), {"index": {b"referer": b"http://" + referer.encode()}, "hostname": "a.example"})
    assert handlet._may(request) in (True, False)


@pytest.mark.parametrize(
    ("props", "problem"),
    [
        ({"own": False}, "must have names, or own: true"),
        ({"names": ["http://example.com"]}, 'names must be a host name such as "example.com"'),
        ({"names": ["a.*.b"]}, "names must be a host name"),
        ({"names": ["~("]}, "names must be a host name .*: missing"),
    ],
)
def test_problems(props: dict[str, Any], problem: str) -> None:
    with pytest.raises(ConfigError, match=problem):
        load(config(rules=[{"handlets": [{"referer": props}]}]))
