"""Flame graphs: well-formed pictures of the right widths."""

from __future__ import annotations

from xml.etree import ElementTree

from hypothesis import given
from hypothesis import strategies as st

from hemi.library.flamegraph import collapse, render

SVG = "{http://www.w3.org/2000/svg}"
STACKS = {("a.main", "a.work"): 30, ("a.main", "b.<lambda>"): 60, ("a.main",): 10}


def boxes(svg: str) -> dict[str, float]:
    """The share of each function."""
    found = ElementTree.fromstring(svg.encode()).iter(f"{SVG}g")
    return {each.attrib["data-n"]: float(each.attrib["data-w"]) for each in found if "data-n" in each.attrib}


def test_collapsed_stacks() -> None:
    assert collapse(STACKS) == "a.main 10\na.main;a.work 30\na.main;b.<lambda> 60\n"
    assert collapse({}) == ""


def test_widths_are_shares() -> None:
    assert boxes(render(STACKS, "title")) == {"all": 1.0, "a.main": 1.0, "a.work": 0.3, "b.<lambda>": 0.6}


def test_it_needs_nothing_from_elsewhere() -> None:
    svg = render(STACKS, "<title> & more", "sub")
    assert "&lt;title&gt; &amp; more" in svg
    assert svg.count("http") == 1  # the namespace


def test_nothing_sampled_is_a_picture_too() -> None:
    assert boxes(render({}, "nothing")) == {"all": 0.0}


def test_names_are_cut_from_the_front() -> None:
    svg = render({("some.long.package.of.a.module.Class.method",): 1, ("x",): 9}, "t")
    assert ">Class.method</text>" in svg


NAMES = st.text(st.characters(codec="utf-8", exclude_categories=["C"]), min_size=1, max_size=30)


@given(st.dictionaries(st.lists(NAMES, max_size=5).map(tuple), st.integers(1, 1000), max_size=8))
def test_whatever_is_sampled_is_well_formed(stacks: dict[tuple[str, ...], int]) -> None:
    assert boxes(render(stacks, "t"))["all"] == (1.0 if stacks else 0.0)
