"""From YAML to given values: what scalars mean, where things stand, and which texts are refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hemi import source
from hemi.source import Given, Reader, SourceError, from_data


def read(text: str | bytes) -> Any:
    reader = Reader()
    root = reader.read(text, "it")
    assert not reader.problems
    assert root is not None
    return root.plain()


def refusals(text: str | bytes) -> list[str]:
    reader = Reader()
    reader.read(text, "it")
    return [str(problem) for problem in reader.problems]


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("true", True),
        ("False", False),
        ("on", "on"),
        ("no", "no"),
        ("y", "y"),
        ("null", None),
        ("~", None),
        ("", None),
        ("0", 0),
        ("-12", -12),
        ("+3", 3),
        ("0x1F", 31),
        ("0o17", 15),
        ("017", "017"),
        ("0660", "0660"),
        ("1:30", "1:30"),
        ("2024-01-01", "2024-01-01"),
        ("1_000", "1_000"),
        ("1.5", 1.5),
        (".5", 0.5),
        ("1e3", 1000.0),
        ("1.", 1.0),
        (".", "."),
        (".inf", ".inf"),
        ("=", "="),
        ("'true'", "true"),
        ('"1"', "1"),
        ("!!str 1", "1"),
        ("127.0.0.1", "127.0.0.1"),
        ("9" * 100, "9" * 100),
    ],
)
def test_scalars(text: str, value: Any) -> None:
    found = read(f"a: {text}")["a"]
    assert found == value
    assert type(found) is type(value)


def test_numbers_remember_their_spelling() -> None:
    root = Reader().read("a: 1.10\nb: 0x1F\n'c': '1'", "it")
    assert root is not None
    assert [root.value[key].text for key in "abc"] == ["1.10", "0x1F", None]


def test_places_of_keys_and_values() -> None:
    root = Reader().read("a:\n  - b: 1\n    ü: {c: x}\n", "it")
    assert root is not None
    item = root.value["a"].value[0]
    assert str(root.key_place("a")) == "it:1:1"
    assert str(item.place) == "it:2:5"
    assert str(item.key_place("ü")) == "it:3:5"
    assert str(item.value["ü"].value["c"].place) == "it:3:12"


def test_nothing_is_an_empty_mapping() -> None:
    assert read("") == {}
    assert read("# only a comment\n") == {}
    assert read(b"\xef\xbb\xbfa: 1") == {"a": 1}


def test_keys_are_texts_as_spelled() -> None:
    assert read("404: a\n1.0: b\ntrue: c\n") == {"404": "a", "1.0": "b", "true": "c"}


def test_aliases_and_merge_keys() -> None:
    assert read("a: &x {b: 1, c: [2]}\nd: *x\n") == {"a": {"b": 1, "c": [2]}, "d": {"b": 1, "c": [2]}}
    merged = read("a: &x {b: 1, c: 2}\ne: &y {c: 3, d: 4}\nf:\n  <<: [*x, *y]\n  b: 5\n")
    assert merged["f"] == {"b": 5, "c": 2, "d": 4}


def test_aliases_make_values_of_their_own() -> None:
    root = Reader().read("a: &x {b: 1}\nc: *x\n", "it")
    assert root is not None
    assert root.value["a"] is not root.value["c"]
    assert root.value["a"].place == root.value["c"].place


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("a: 1\na: 2\n", 'it:2:1: "a" must be written once, it is already in line 1'),
        ("{a: 1, 'a': 2}", 'it:1:8: "a" must be written once, it is already in line 1'),
        ("a:\n\tb: 1\n", "it:2:1: must be indented by spaces, not tabs"),
        ("a:\n  b: 1\n\tc: 1\n", "it:3:1: must be indented by spaces, not tabs"),
        (
            "a: !!python/name:os.system x",
            "it:1:4: must be written without a tag, not tag:yaml.org,2002:python/name:os.system",
        ),
        ("a: !x {}", "it:1:4: must be written without a tag, not !x"),
        ("? [a]\n: 1\n", "it:1:3: a key must be text, not a list or a mapping"),
        ("a: [b.${c}]", "it:1:8: must be quoted when ${…} is inside of [ ] or { }"),
        ("a: {b: [1, {c: 2}\n", "it:1:8: must be closed by ] or }"),
        (
            "a: 'x\nb: 1\n",
            "it:1:4: must be YAML: found unexpected end of stream, while scanning a quoted scalar",
        ),
        ("a: 1\n---\nb: 2\n", "it:2:1: must be one document, not several"),
        ("a: *x\n", "it:1:4: there is no anchor &x above"),
        ("a: &x [*x]\n", "it:1:8: *x must not stand inside of &x"),
        ("a: 1\nb:\n  <<: 3\n", "it:3:7: << must have a mapping or a list of mappings"),
        (b"a: 1\nb: \xff\n", "it:2:4: must be UTF-8, not byte 0xff"),
        ("a: 1\nb: \x07\n", "it:2:4: must be printable text, not character 0x07"),
        ("a: 1\nb: \ud800\n", "it:2:4: must be printable text, not character 0xd800"),
    ],
)
def test_problems_with_their_places(text: str | bytes, problem: str) -> None:
    assert refusals(text) == [problem]


@pytest.mark.parametrize("text", ["a: 'x", "- a\nb: c", "a: b: c", "%", "@", "`", "a: |\n b\nc", "&"])
def test_text_that_is_not_yaml(text: str) -> None:
    (problem,) = refusals(text)
    assert problem.startswith("it:")
    assert "must be YAML: " in problem


def test_all_problems_of_a_file_are_found() -> None:
    assert len(refusals("a: 1\na: 2\nb: !x 1\na: 3\n")) == 3


def bomb(levels: int) -> str:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, levels)]
    return "\n".join(lines)


def test_alias_bombs_are_capped() -> None:
    (problem,) = refusals(bomb(9))
    assert problem.endswith(": must have at most 100000 values, with aliases expanded")


@pytest.mark.parametrize(
    "text", ["[" * 100_000, "{a: " * 100, "- " * 200, "\n".join(" " * n + "a:" for n in range(100))]
)
def test_depth_is_capped(text: str) -> None:
    (problem,) = refusals(text)
    assert "must be nested at most 64 deep" in problem


def test_size_is_capped() -> None:
    assert refusals("#" * (source.MAX_BYTES + 1)) == ["it:1:1: must have at most 1 MiB, not 1048577 bytes"]
    assert read("a: 1 #" + "x" * 1000) == {"a": 1}


def test_caps_hold_for_all_files_together() -> None:
    reader = Reader()
    text = "a: [" + "1," * 60_000 + "]"
    assert reader.read(text, "one") is not None
    assert reader.read(text, "two") is None


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    reader = Reader()
    assert reader.open(str(tmp_path / "no.yaml")) is None
    assert reader.open(str(tmp_path)) is None
    assert reader.open("a\0b") is None
    reasons = [problem.message.rpartition(": ")[2] for problem in reader.problems]
    assert reasons[:2] == ["No such file or directory", "not a regular file"]


def test_python_data() -> None:
    root = from_data({"a": (1, Path("/x")), 2: {"b": None, "c": True}, "d": 1.5})
    assert root.plain() == {"a": [1, "/x"], "2": {"b": None, "c": True}, "d": 1.5}
    assert root.value["d"].text == "1.5"
    given_already = Given(1)
    assert from_data([given_already]).value[0] is given_already


def test_python_data_that_holds_itself_is_refused() -> None:
    data: list[Any] = []
    data.append(data)
    with pytest.raises(SourceError):
        from_data(data)


@settings(max_examples=300, deadline=None)
@given(st.one_of(st.text(), st.text(alphabet="ab:-[]{}&*<'\"|>#!?% \n\t0.,"), st.binary()))
def test_any_text_is_read_or_refused(text: str | bytes) -> None:
    reader = Reader()
    root = reader.read(text, "it")
    assert root is not None or reader.problems
