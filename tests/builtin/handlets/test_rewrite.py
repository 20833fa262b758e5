"""Requests with another path, and where they come to."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import hemi.builtin  # noqa: F401  registers its components
from hemi.errors import ConfigError
from hemi.web.request import Request
from hemi.web.response import Response
from tests.webkit import Answer, config, load, scripted, serve


def show(req: Request, resp: Response) -> bool:
    """Answers with all that says where a request goes."""
    assert req.uri() == req.raw_path.decode() + (f"?{req.query_string}" if req.query_string else "")
    resp.content_type = "text/plain"
    resp.send(f"{req.path}|{req.uri()}".encode("utf-8", "surrogateescape"))
    return True


def ask(target: str, method: str = "GET", **props: Any) -> Answer:
    with serve(rules=[{"handlets": [{"rewrite": props}, scripted(show)]}]) as site, site.connect() as client:
        client.request(method, target)
        return client.answer()


def seen(target: str, **props: Any) -> str:
    answer = ask(target, **props)
    assert answer.status == 200, answer
    return answer.content.decode("utf-8", "surrogateescape")


@pytest.mark.parametrize(
    ("props", "target", "expected"),
    [
        ({"from": "^/old/(.*)", "to": "/new/$1"}, "/old/a%20b?x=%2F", "/new/a b|/new/a%20b?x=%2F"),
        ({"from": "^/old/(.*)", "to": "/new/$1"}, "/other//x/../y", "/other/y|/other//x/../y"),
        ({"from": "^/old/(.*)", "to": "/new?p=$1"}, "/old/a&admin=1?x=1", "/new|/new?p=a%26admin%3D1"),
        ({"from": "^/old/(.*)", "to": "/new/$1"}, "/old/%3Fa%23b", "/new/?a#b|/new/%3Fa%23b"),
        ({"from": "^/old", "to": "/new?a=1&$query_string"}, "/old?x=1", "/new|/new?a=1&x=1"),
        ({"from": "^/old", "to": "/new", "keep_query": False}, "/old?x=1", "/new|/new"),
        ({"from": "^/old", "to": "/new?"}, "/old?x=1", "/new|/new"),
        ({"from": "\\.php$", "to": "/$method/$hostname"}, "/a.php", "/GET/a.example|/GET/a.example"),
        ({"to": "/index.php"}, "/a/b?c", "/index.php|/index.php?c"),
        ({"to": "/x$path"}, "/%2561", "/x/%61|/x/%2561"),
        ({"strip_prefix": "/api"}, "/api/v1/x?y", "/v1/x|/v1/x?y"),
        ({"strip_prefix": "/api"}, "/apis/x", "/apis/x|/apis/x"),
        ({"strip_prefix": "/api"}, "/api//evil", "/evil|/evil"),
        ({"add_prefix": "/v2"}, "/x/", "/v2/x/|/v2/x/"),
        ({"strip_prefix": "/a", "add_prefix": "/b"}, "/a/x", "/b/x|/b/x"),
        ({"strip_prefix": "/a", "add_prefix": "/b"}, "/c/x", "/c/x|/c/x"),
        ({"map": {"/a": "/b?c=1", "/d/*": "/e/*"}}, "/a?x=1", "/b|/b?c=1"),
        ({"map": {"/a": "/b?c=1", "/d/*": "/e/*"}}, "/d/f?x=1", "/e/f|/e/f?x=1"),
        ({"map": {"/a": "/b"}}, "/c?x=1", "/c|/c?x=1"),
        ({"delete_query": ["a"], "set_query": {"b": "$method&"}}, "/?a=1&b=2&c=3", "/|/?c=3&b=GET%26"),
        ({"add_query": {"h": "$hostname", "none": "$header_x_none"}}, "/p?h=1", "/p|/p?h=1&h=a.example"),
        ({"delete_query": "*"}, "/p//q?h=1", "/p/q|/p//q"),
        ({"from": "^/(a*)$", "to": "/b/$1"}, "/aaa", "/b/aaa|/b/aaa"),
    ],
)
def test_rewriting(props: dict[str, Any], target: str, expected: str) -> None:
    assert seen(target, **props) == expected


def test_what_is_not_utf8() -> None:
    assert seen("/%e4", add_prefix="/x").encode("utf-8", "surrogateescape") == b"/x/\xe4|/x/%E4"
    assert ask("/%e4", **{"from": "^/(.*)", "to": "/x/$1"}).status == 400
    assert seen("/%e4", **{"from": "^/(.*)", "to": "/x"}) == "/x|/x"


@pytest.mark.parametrize("value", ["../secret", "a/../../b", ".", "x%00"])
def test_nothing_climbs_out(value: str) -> None:
    assert ask(f"/?file={value}", to="/files/$query_file", keep_query=False).status == 400
    assert ask(f"/?file={value}", to="/files/$query_file", then="redirect").status == 400


def test_what_is_no_path_stays() -> None:
    assert ask("*", method="OPTIONS", to="/x").content == b"*|*"


def test_apps_and_logs_keep_the_target() -> None:
    with serve(rules=[{"handlets": [{"rewrite": {"to": "/x"}}, scripted(show)]}]) as site:
        assert site.get("/old?a").content == b"/x|/x?a"
        assert site.access[0].line == "GET /old?a HTTP/1.1"


def rules(then: Any) -> list[dict[str, Any]]:
    return [
        {"if": '$path == "/new"', "return_code": 200, "return_text": "first"},
        {
            "if": '$path == "/old"',
            "handlets": [{"rewrite": {"to": "/new", "then": then or "continue"}}, scripted(show)],
        },
        {"if": '$path == "/new"', "return_code": 200, "return_text": "last"},
    ]


def test_going_on_and_searching_again() -> None:
    of_another_rule = {"if": '$path == "/old"', "handlets": [{"rewrite": {"to": "/new"}}]}
    with serve(rules=[rules("")[0], of_another_rule, rules("")[2]]) as site:
        assert site.get("/old").content == b"last"
    with serve(rules=rules("continue")) as site:
        assert site.get("/old").content == b"/new|/new"
    with serve(rules=rules("restart")) as site:
        assert site.get("/old").content == b"first"


def test_a_search_that_would_change_nothing_is_none() -> None:
    with serve(rules=[{"handlets": [{"rewrite": {"to": "/x", "then": "restart"}}, scripted(show)]}]) as site:
        assert site.get("/old").content == b"/x|/x"


def test_circles() -> None:
    rules = [{"handlets": [{"rewrite": {"add_prefix": "/x", "then": "restart"}}]}]
    with serve(rules=rules) as site:
        assert site.get("/old").status == 500
        (entry,) = site.log.of("error", "web")
        assert entry.message.endswith(f"at last to {'/x' * 11}/old")


def location(target: str, **props: Any) -> str | None:
    answer = ask(target, then="redirect", **props)
    assert answer.status == props.get("code", 302) and not answer.content
    return answer.header("location")


@pytest.mark.parametrize("code", [301, 302, 303, 307, 308])
def test_redirections(code: int) -> None:
    assert location(
        "/old/ä?b=c".replace("ä", "%c3%a4"), **{"from": "^/old/(.*)", "to": "/new/$1", "code": code}
    ) == ("/new/%C3%A4?b=c")


def test_redirections_to_other_sites() -> None:
    assert location("/a?b", to="https://www.$hostname$path") == "https://www.a.example/a?b"
    assert location("/docs/x", map={"/docs/*": "https://docs.example/*"}) == "https://docs.example/x"


@pytest.mark.parametrize(
    "attack", ["//evil.example/", "/%5cevil.example", "/\\evil.example", "///evil.example"]
)
def test_no_open_redirect(attack: str) -> None:
    for props in ({"add_query": {"a": "1"}}, {"to": "/$query_next"}, {"strip_prefix": "/x"}):
        for target in (attack, f"/?next={attack}", f"/x{attack}"):
            answer = ask(target, then="redirect", **props)
            found = answer.header("location")
            assert found is None or found[:2] not in ("//", "/\\"), (target, found)


def test_what_is_there_already_is_not_redirected_to() -> None:
    assert ask("/new?a=1", then="redirect", to="/new").content == b"/new|/new?a=1"


def test_tables_in_files(tmp_path: Path) -> None:
    path = tmp_path / "moved"
    path.write_text("/a /b\n")
    with serve(rules=[{"handlets": [{"rewrite": {"map_file": str(path)}}, scripted(show)]}]) as site:
        handlet: Any = site.stage.members["webapps"]["app"].rules[0].handlets[0]  # type: ignore[attr-defined]
        assert site.get("/a").content == b"/b|/b"
        path.write_text("/a /c\n")
        handlet._file._due = 0
        assert site.get("/a").content == b"/c|/c"
        path.write_text("/a https://evil.example/\n")
        handlet._file._due = 0
        assert site.get("/a").content == b"/c|/c"
        assert "other sites can only be redirected to" in site.log.of("error", "rewrite")[0].message


@pytest.mark.parametrize(
    ("props", "problem"),
    [
        ({}, "must have something to rewrite"),
        ({"to": "/a", "map": {"/a": "/b"}}, "must have only one of to, map and map_file"),
        ({"from": "a"}, "from needs to"),
        ({"from": "(", "to": "/a"}, "from must be a regular expression"),
        ({"from": "a", "to": "/$1"}, r"to must not have \$1: from has 0 groups"),
        ({"to": "new"}, 'to must be a path or URL such as "/new/\\$1", not "new"'),
        ({"to": "/$nothing"}, "there is no variable"),
        ({"to": "https://a/"}, "then must be redirect: other sites can only be redirected to"),
        ({"map": {"/a": "https://a/"}, "then": "restart"}, "then must be redirect"),
        ({"map": {"a": "/b"}}, "map 'a': it must start"),
        ({"map": {"/a": "/b"}, "map_file": "/x"}, "must have either map or map_file"),
        ({"map_file": "/nowhere/x"}, "map_file cannot be read: /nowhere/x"),
        ({"strip_prefix": "api"}, 'strip_prefix must be a path such as "/api"'),
        ({"add_prefix": "/a/.."}, "add_prefix must be a path"),
    ],
)
def test_problems(props: dict[str, Any], problem: str) -> None:
    with pytest.raises(ConfigError, match=problem):
        load(config(rules=[{"handlets": [{"rewrite": props}]}]))
