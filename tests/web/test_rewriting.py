"""Targets, tables of paths, changes of queries."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hemi.conditions import Scope
from hemi.web.rewriting import PathTable, Place, Target, edit_query, parse_table, strip_prefix
from hemi.web.uri import BadTarget, normalise_path, parse_query

SCOPE = Scope("test", {name: f"s.{name}" for name in ("path", "uri", "query_string", "hostname", "method")})


def place(text: str, *groups: str, **variables: str) -> Place:
    return Target(text, SCOPE)(SimpleNamespace(**variables), ("whole", *groups))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("/new", Place("", "/new", None)),
        ("/new?", Place("", "/new", "")),
        ("/$1/$(2)x/$0", Place("", "/one/two?x/whole", None)),
        ("/$1?a=$2&b=$1", Place("", "/one", "a=two%3F&b=one")),
        ("/$$1$", Place("", "/$1$", None)),
        ("/a$path", Place("", "/a/p q", None)),
        ("/a?$query_string&p=$path", Place("", "/a", "x=1&y=%20&p=%2Fp%20q")),
        ("https://$hostname/$1?m=$method", Place("https://a.example", "/one", "m=GET")),
        ("https://b.example", Place("https://b.example", "/", None)),
        ("https://www.$hostname$path?x", Place("https://www.a.example", "/p q", "x")),
        ("$path", Place("", "/p q", None)),
        ("$(path)s/", Place("", "/p qs/", None)),
        ("https://b.example?x", Place("https://b.example", "/", "x")),
    ],
)
def test_targets(text: str, expected: Place) -> None:
    variables = {"path": "/p q", "query_string": "x=1&y=%20", "hostname": "a.example", "method": "GET"}
    assert place(text, "one", "two?", **variables) == expected


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "must be a path"),
        ("new", "must be a path"),
        ("$1", "must be a path"),
        ("$pathology", "must be a path"),
        ("/new#part", "without a fragment"),
        ("ftp://a/b", "must be a path"),
        ("/a/../b", "must not have dot segments"),
        ("/a?b c", "its query must be encoded"),
        ("/new$uri", r"\$uri must not stand in a path: it is encoded; write \$path"),
        ("/new$query_string", "must not stand in a path"),
        ("/$nothing", r"there is no variable \$nothing"),
        ("https://$1/", "groups must stand behind the name of the site"),
        ("https://x$(1)/", "groups must stand behind the name of the site"),
    ],
)
def test_what_is_no_target(text: str, problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        Target(text, SCOPE)


def test_the_highest_group() -> None:
    assert Target("/a", SCOPE).highest_group == 0
    assert Target("/$1/$(12)?$2", SCOPE).highest_group == 12


@pytest.mark.parametrize(
    ("path", "raw"),
    [
        ("/a b/ü?x#y", "/a%20b/%C3%BC%3Fx%23y"),
        ("//a///b", "/a/b"),
        ("/100%", "/100%25"),
        ("/%2e%2e/x", "/%252e%252e/x"),
        ("/a\\..\\b", "/a%5C..%5Cb"),
        ("/\udce4", "/%E4"),
    ],
)
def test_raw_paths(path: str, raw: str) -> None:
    assert Place("", path, None).raw_path() == raw


@pytest.mark.parametrize("path", ["/files/../x", "/files/..", "/./x", "/x\0"])
def test_what_would_climb_out(path: str) -> None:
    with pytest.raises(BadTarget):
        Place("", path, None).raw_path()


@given(st.text(), st.text())
def test_groups_stay_where_they_are_put(one: str, two: str) -> None:
    found = place("/files/$1?q=$2&fixed=1", one, two)
    if "\0" in one or not {".", ".."}.isdisjoint(found.path.split("/")):
        with pytest.raises(BadTarget):
            found.raw_path()
        return
    raw = found.raw_path()
    assert raw.isascii() and not set("?# \\") & set(raw)
    assert normalise_path(raw.encode()) == normalise_path(raw.encode())
    assert normalise_path(raw.encode()).startswith("/files")
    pairs = parse_query(found.query or "")
    assert [name for name, _ in pairs] == ["q", "fixed"]
    assert pairs[0][1] == two


TABLE = {
    "/a": "/b",
    "/a/*": "/below/*",
    "/a/b/*": "/deep/x-*",
    "/gone/*": "/why?from=gone",
    "/away/*": "https://b.example/from/*?x=1",
}


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/a", Place("", "/b", None)),
        ("/a/", Place("", "/below/", None)),
        ("/a/x/y?z", Place("", "/below/x/y?z", None)),
        ("/a/b", Place("", "/below/b", None)),
        ("/a/b/c", Place("", "/deep/x-c", None)),
        ("/gone/x/y", Place("", "/why", "from=gone")),
        ("/away/x", Place("https://b.example", "/from/x", "x=1")),
        ("/ab", None),
        ("/", None),
        ("/gone", None),
    ],
)
def test_tables(path: str, expected: Place | None) -> None:
    table = PathTable(TABLE)
    assert table.find(path) == expected and len(table) == 5 and table.has_site


def test_a_table_for_everything() -> None:
    table = PathTable({"/*": "/x/*"})
    assert table.find("/a/b") == Place("", "/x/a/b", None) and not table.has_site


@pytest.mark.parametrize("path", ["a", "/a*", "/*/a", ""])
def test_what_no_table_may_have(path: str) -> None:
    with pytest.raises(ValueError, match='it must start with "/"'):
        PathTable({path: "/x"})
    with pytest.raises(ValueError):
        PathTable({"/a": "/x*"})
    with pytest.raises(ValueError):
        PathTable({"/a/*": "/*/x"})


def test_tables_of_texts() -> None:
    table = parse_table("# moved\n\n/a   /b?x=1\n\t/c/*\thttps://c.example/*\r\n")
    assert table.find("/a") == Place("", "/b", "x=1") and table.has_site
    for text, problem in [
        ("/a", "line 1 must be a path and a target"),
        ("\n/a /b /c", "line 2 must be"),
        ("/a /b\n/a /c", "line 2: '/a' is there twice"),
        ("a /b", "'a': it must start"),
    ]:
        with pytest.raises(ValueError, match=problem):
            parse_table(text)


@given(st.text())
def test_any_text_is_a_table_or_wrong(text: str) -> None:
    try:
        table = parse_table(text)
    except ValueError:
        return
    table.find("/x")


@pytest.mark.parametrize(
    ("path", "prefix", "expected"),
    [
        ("/api/x", "/api", "/x"),
        ("/api", "/api", "/"),
        ("/api/", "/api", "/"),
        ("/apis", "/api", None),
        ("/x/api", "/api", None),
        ("/api/x", "/api/", "/x"),
        ("/api", "/api/", None),
    ],
)
def test_prefixes(path: str, prefix: str, expected: str | None) -> None:
    assert strip_prefix(path, prefix) == expected


@pytest.mark.parametrize(
    ("query", "drop", "add", "expected"),
    [
        ("a=1&b=%2F&&c", [], [], "a=1&b=%2F&c"),
        ("a=1&b=2&a=3", ["a"], [], "b=2"),
        ("%61=1&b", ["a"], [("a", "x&y=ü")], "b&a=x%26y%3D%C3%BC"),
        ("a=1", ["*"], [("b", "")], "b="),
        ("", ["a"], [("a b", "c")], "a%20b=c"),
    ],
)
def test_queries(query: str, drop: list[str], add: list[tuple[str, str]], expected: str) -> None:
    assert edit_query(query, frozenset(drop), add) == expected


@given(st.lists(st.tuples(st.text(min_size=1), st.text())), st.text(min_size=1), st.text())
def test_a_set_name_is_there_once(pairs: list[tuple[str, str]], name: str, value: str) -> None:
    query = edit_query("", frozenset(), pairs)
    changed = parse_query(edit_query(query, frozenset([name]), [(name, value)]))
    assert changed == [pair for pair in pairs if pair[0] != name and name != "*"] + [(name, value)]
