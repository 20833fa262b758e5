"""Patterns and the tree of routes."""

from __future__ import annotations

import time
import uuid
from typing import Any

import pytest

from hemi.web.routing import CONVERTERS, BadPattern, Converter, Router, build_path


def router(*patterns: str, converters: dict[str, Converter] | None = None) -> Router[str]:
    made: Router[str] = Router(converters)
    for pattern in patterns:
        made.add(("GET",), pattern, pattern)
    return made


@pytest.mark.parametrize(
    ("pattern", "path", "values"),
    [
        ("/", "/", {}),
        ("/users", "/users", {}),
        ("/users/", "/users/", {}),
        ("/users/<id>", "/users/ada", {"id": "ada"}),
        ("/users/<int:id>", "/users/42", {"id": 42}),
        ("/users/<int:id>", "/users/-1", {"id": -1}),
        ("/at/<float:x>", "/at/1.5", {"x": 1.5}),
        ("/at/<float:x>", "/at/1", {"x": 1.0}),
        ("/files/<path:rest>", "/files/a/b/c.txt", {"rest": "a/b/c.txt"}),
        ("/files/<path:rest>", "/files/a/", {"rest": "a/"}),
        ("/v<int:version>/<name>.json", "/v2/x.json", {"version": 2, "name": "x"}),
        ("/a/<b>/c/<d>", "/a/1/c/2", {"b": "1", "d": "2"}),
        (
            "/<uuid:id>",
            "/123e4567-e89b-12d3-a456-426614174000",
            {"id": uuid.UUID("123e4567-e89b-12d3-a456-426614174000")},
        ),
        ("/é/<x>", "/é/日", {"x": "日"}),
    ],
)
def test_a_pattern_matches(pattern: str, path: str, values: dict[str, Any]) -> None:
    assert router(pattern).find("GET", path) == (pattern, values)


@pytest.mark.parametrize(
    ("pattern", "path"),
    [
        ("/users", "/users/"),
        ("/users/", "/users"),
        ("/users/<id>", "/users/"),
        ("/users/<id>", "/users/a/b"),
        ("/users/<int:id>", "/users/x"),
        ("/users/<int:id>", "/users/1x"),
        ("/users/<int:id>", "/users/٣"),
        ("/users/<int:id>", "/users/" + "9" * 5000),
        ("/at/<float:x>", "/at/nan"),
        ("/at/<float:x>", "/at/1e9"),
        ("/files/<path:rest>", "/files/"),
        ("/<name>.json", "/.json"),
        ("/v<int:version>", "/v"),
        ("/<uuid:id>", "/123e4567e89b12d3a456426614174000"),
    ],
)
def test_a_pattern_does_not_match(pattern: str, path: str) -> None:
    assert router(pattern).find("GET", path) is None


def test_the_most_specific_match_wins_whatever_the_order() -> None:
    patterns = ["/<path:rest>", "/u/<name>", "/u/<int:id>", "/u/me", "/u/<name>.json", "/u/x<name>"]
    for order in (patterns, patterns[::-1]):
        made = router(*order)
        for path, pattern in [
            ("/u/me", "/u/me"),
            ("/u/7", "/u/<int:id>"),
            ("/u/ada", "/u/<name>"),
            ("/u/a.json", "/u/<name>.json"),
            ("/u/xy", "/u/x<name>"),
            ("/u/a/b", "/<path:rest>"),
        ]:
            found = made.find("GET", path)
            assert found is not None and found[0] == pattern


def test_the_search_goes_back_where_the_specific_way_ends() -> None:
    made = router("/a/b/c", "/a/<x>/d", "/<y>/b/e")
    assert made.find("GET", "/a/b/d") == ("/a/<x>/d", {"x": "b"})
    assert made.find("GET", "/a/b/e") == ("/<y>/b/e", {"y": "a"})


def test_methods_are_found_across_patterns() -> None:
    made: Router[str] = Router()
    made.add(("GET",), "/u/me", "me")
    made.add(("GET", "PUT"), "/u/<name>", "one")
    assert made.find("PUT", "/u/me") == ("one", {"name": "me"})
    assert made.find("DELETE", "/u/me") is None
    assert made.methods("/u/me") == {"GET", "PUT"}
    assert made.methods("/nothing") == set()


def test_names_of_one_place_may_differ() -> None:
    made: Router[str] = Router()
    made.add(("GET",), "/u/<id>", "get")
    made.add(("PUT",), "/u/<key>", "put")
    assert made.find("GET", "/u/1") == ("get", {"id": "1"})
    assert made.find("PUT", "/u/1") == ("put", {"key": "1"})


@pytest.mark.parametrize(
    ("pattern", "message"),
    [
        ("users", "must start with /"),
        ("/<a>/<a>", "two parameters of one name"),
        ("/<a>-<b>", "two parameters in one segment"),
        ("/<what:a>", "no converter 'what'"),
        ("/<a", "must be like <name>"),
        ("/a>", "must be like <name>"),
        ("/<1a>", "must be like <name>"),
        ("/<path:a>/b", "must be at the end"),
        ("/<path:a>.txt", "must be at the end"),
        ("/a//b", "empty segment"),
    ],
)
def test_a_bad_pattern(pattern: str, message: str) -> None:
    with pytest.raises(BadPattern, match=message):
        router(pattern)


def test_the_same_route_twice() -> None:
    with pytest.raises(BadPattern, match="GET /u/<b> is declared twice"):
        router("/u/<a>", "/u/<b>")


def test_a_converter_of_ones_own() -> None:
    converters = {**CONVERTERS, "hex": Converter(lambda text: int(text, 16), "{:x}".format)}
    made = router("/<hex:n>", "/<n>", converters=converters)
    assert made.find("GET", "/ff") == ("/<hex:n>", {"n": 255})
    assert made.find("GET", "/zz") == ("/<n>", {"n": "zz"})


def test_paths_are_built_encoded_and_read_back() -> None:
    made: Router[str] = Router()
    segments = made.add(("GET",), "/é/<name>/<int:n>", "it")
    path = build_path(segments, {"name": "a b?", "n": 7}, CONVERTERS)
    assert path == "/%C3%A9/a%20b%3F/7"
    rest = made.add(("GET",), "/f/<path:rest>", "rest")
    assert build_path(rest, {"rest": "a/b"}, CONVERTERS) == "/f/a/b"


@pytest.mark.parametrize("name", ["", "a/b", ".", ".."])
def test_a_value_that_would_change_the_path_is_refused(name: str) -> None:
    segments = Router[str]().add(("GET",), "/u/<name>", "it")
    with pytest.raises(ValueError):
        build_path(segments, {"name": name}, CONVERTERS)


def test_no_path_makes_the_search_slow() -> None:
    made = router(
        *("/" + "/".join(["<a0>", *(f"<a{n}>" for n in range(1, depth))]) for depth in range(1, 30))
    )
    started = time.process_time()
    assert made.find("GET", "/a" * 4000) is None
    assert time.process_time() - started < 1.0
