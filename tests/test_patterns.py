"""Regular expressions of users: what they match, and that none can stall us."""

from __future__ import annotations

import time

import pytest

from hemi.patterns import MAX_LENGTH, Pattern, PatternError


def test_search_is_unanchored() -> None:
    assert Pattern("b+").search("abbc")
    assert not Pattern("^b").search("abc")
    assert Pattern("(?i)ÄB").search("xäb")


def test_sub_replaces_with_groups() -> None:
    assert Pattern(r"^/old/(.*)").sub(r"/new/\1", "/old/a") == "/new/a"


def test_groups() -> None:
    pattern = Pattern("/(a+)(x)?/(b*)")
    assert pattern.group_count == 3
    assert pattern.groups("//aa/") == ("/aa/", "aa", "", "")
    assert pattern.groups("/b") is None
    assert Pattern("(.)$").groups("a\udce4") == ("?", "?")


def test_patterns_are_values() -> None:
    assert Pattern("a") == Pattern("a")
    assert len({Pattern("a"), Pattern("a"), Pattern("b")}) == 2
    assert repr(Pattern("a")) == "<Pattern 'a'>"


@pytest.mark.parametrize(
    "text", ["(", "a**", "[z-a]", r"(a)\1", "(?=a)", "x" * (MAX_LENGTH + 1), "(((x{100}){100}){100})"]
)
def test_what_is_no_expression_is_refused(text: str) -> None:
    with pytest.raises(PatternError):
        Pattern(text)


def test_the_classic_bomb_takes_linear_time() -> None:
    pattern = Pattern("^(a+)+$")
    began = time.monotonic()
    assert not pattern.search("a" * 50_000 + "b")
    assert time.monotonic() - began < 1.0  # a backtracking engine would take until the end of the universe


def test_bytes_that_are_not_utf8_can_be_searched() -> None:
    text = b"/\xff/admin".decode("utf-8", "surrogateescape")
    assert Pattern("admin$").search(text)
    assert Pattern("admin").sub("x", text).endswith("/x")
