"""The search for a rule, and how it begins anew for a request that a handlet has given another path."""

from __future__ import annotations

from typing import Any

import pytest

import hemi.builtin  # noqa: F401  registers its components
from hemi.errors import ConfigError
from hemi.web.errors import SearchAgain
from hemi.web.request import Request
from hemi.web.response import Response
from hemi.web.uri import BadTarget
from hemi.web.webapp import MAX_RESTARTS
from tests.webkit import config, load, scripted, serve


def show(req: Request, resp: Response) -> bool:
    resp.send_json([req.path, req.raw_path.decode(), req.query_string, req.target.decode(), req.query("a")])
    return True


def test_the_search_begins_anew() -> None:
    def turn(req: Request, resp: Response) -> bool:
        assert req.query("a") == "1"
        resp.add_header("x-of-the-first-search", "1")
        req.rewrite(b"/n%C3%ABw/../%2e/b", "a=2")
        raise SearchAgain

    rules = [
        {"if": '$path == "/b"', "handlets": [scripted(show)]},
        {
            "handlets": [scripted(turn)],
            "revisers": [{"head": {"add_response": {"x-turned": "1"}}}],
        },
    ]
    with serve(rules=rules) as site:
        answer = site.get("/old?a=1")
        assert answer.content.decode() == '["/b","/n%C3%ABw/../%2e/b","a=2","/old?a=1","2"]'
        assert answer.header("x-turned") is None and answer.header("x-of-the-first-search") is None
        assert site.access[0].line == "GET /old?a=1 HTTP/1.1"


@pytest.mark.parametrize(
    ("given", "problem"),
    [
        (
            {"error_pages": {"404": "/none/404.html"}},
            r"error_pages must be files .*/none/404.html: No such file",
        ),
        ({"error_pages": {"404": "/"}}, r"error_pages must be files that can be shown: .* /: Is a directory"),
        (
            {"error_pages": {"200": __file__}},
            "error_pages must be keyed by a status from 400 to 599, not '200'",
        ),
        (
            {"access_log": {"target": "stdout", "format": "$nope"}},
            "access_log does not fit requests: .* \\$nope",
        ),
        ({"init": "nowhere"}, "init must be \"module:function\", not 'nowhere'"),
        ({"init": "nowhere:to_be_found"}, "init must be importable: .* No module named 'nowhere'"),
        ({"init": "os:nothing"}, "init must be importable: .* os has no nothing"),
        ({"init": "os:sep"}, "init must be importable: 'os:sep' must be a function, not '/'"),
    ],
)
def test_what_could_not_be_prepared_is_found_before(given: dict[str, Any], problem: str) -> None:
    with pytest.raises(ConfigError, match=problem):
        load(config(webapp=given))


def test_circles_end() -> None:
    seen = []

    def turn(req: Request, resp: Response) -> bool:
        seen.append(req.path)
        req.rewrite(b"/b" if req.path == "/a" else b"/a", "")
        raise SearchAgain

    with serve(rules=[{"handlets": [scripted(turn)]}]) as site:
        assert site.get("/a").status == 500
        assert len(seen) == MAX_RESTARTS + 1
        (entry,) = site.log.of("error", "web")
        assert 'webapp "app": the rules send GET /a HTTP/1.1 round in circles' in entry.message


def test_a_path_that_no_client_could_send_changes_nothing() -> None:
    def climb(req: Request, resp: Response) -> bool:
        for raw in (b"/../etc", b"/a/%2e%2e/%2E%2e/etc", b"no-slash", b"/%00", b"/%zz"):
            with pytest.raises(BadTarget):
                req.rewrite(raw, "x")
        return show(req, resp)

    with serve(climb) as site:
        assert site.get("/a").content == b'["/a","/a","","/a",null]'


def test_the_end_of_an_exchange_is_told_whatever_happens() -> None:
    told = []

    def app(req: Request, resp: Response) -> bool:
        req.at_end(lambda: told.append(req.path))
        req.at_end(lambda: 1 // 0)  # type: ignore[arg-type, return-value]
        req.at_end(lambda: told.append("last"))
        if req.path == "/fails":
            raise ValueError
        resp.send("x")
        return True

    with serve(app) as site:
        assert site.get("/works").status == 200
        assert site.get("/fails").status == 500
        assert told == ["/works", "last", "/fails", "last"]
        assert len([entry for entry in site.log.of("error", "web") if "the end of GET" in entry.message]) == 2
