"""Includes, constants, `${…}` and extensions."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from hemi.config import Dirs, load_file
from hemi.errors import ConfigError
from hemi.stage import Stage
from tests import samples
from tests.samples import load, problems


@pytest.fixture(autouse=True)
def sandbox() -> Iterator[None]:
    with samples.sandbox:
        yield


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def write(folder: Path, **files: str) -> None:
    for name, text in files.items():
        path = folder / (name.replace("__", "/") + ".yaml")
        path.parent.mkdir(exist_ok=True, parents=True)
        path.write_text(text)


def load_main(folder: Path) -> Stage:
    return load_file("main.yaml", Dirs.below(str(folder)))


def wrong(folder: Path) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        load_main(folder)
    return [str(problem) for problem in caught.value.problems]


def test_globs_are_spliced_in_order_and_sections_merge(folder: Path) -> None:
    write(
        folder,
        main="include: [sites/*.yaml]\nwebapps: {main: {}}\nweb_root: x\n",
        sites__b="webapps: {b: {rules: [{handlets: static}]}}",
        sites__a="webapps: {a: {}}\nmax_cached: 2K\n",
        sites__c__d="webapps: {never: {}}",
    )
    stage = load_main(folder)
    assert list(stage.members["webapps"]) == ["main", "a", "b"]
    static = stage.members["webapps"]["b"].rules[0].handlets[0]
    assert (static.max_cached, static.web_root) == (2048, str(folder / "x"))


def test_a_glob_without_matches_is_fine_and_a_missing_file_is_not(folder: Path) -> None:
    write(folder, main="include: [none/*.yaml]")
    load_main(folder)
    write(folder, main="include: [sub/no.yaml]")
    assert wrong(folder) == [
        'main.yaml:1:11: "sub/no.yaml" must be a readable file: No such file or directory'
    ]


def test_includes_inside_of_sections_and_components(folder: Path) -> None:
    write(
        folder,
        main="webapps:\n  include: apps/*.yaml\n  shop:\n    include: common.yaml\n",
        apps__blog="blog:\n  include: ../common.yaml\n",
        common="ratio: 0.75\nweb_root: x\n",
    )
    stage = load_main(folder)
    assert [one.ratio for one in stage.members["webapps"].values()] == [0.75, 0.75]
    assert list(stage.members["webapps"]) == ["shop", "blog"]


def test_a_value_called_include_is_only_a_value_elsewhere(folder: Path) -> None:
    write(folder, main="webapps: {a: {settings: {include: [x.yaml]}}}")
    assert load_main(folder).members["webapps"]["a"].settings == {"include": ["x.yaml"]}


def test_included_files_include_further_ones(folder: Path) -> None:
    write(folder, main="include: [a/one.yaml]", a__one="include: [b/two.yaml]", a__b__two="webapps: {x: {}}")
    assert list(load_main(folder).members["webapps"]) == ["x"]


def test_problems_stand_where_they_are_written(folder: Path) -> None:
    write(
        folder,
        main="include: [a.yaml, b.yaml]\nx: 1\n",
        a="webapps: {a: {ratio: 2}}",
        b="webapps: {b: {ratio: [}}",
    )
    assert wrong(folder) == [
        "b.yaml:1:23: must be YAML: did not find expected node content, while parsing a flow node",
        'main.yaml:2:1: stage: unknown key "x"',
        'a.yaml:1:22: webapp "a": ratio must be 0 to 1, not 2',
    ]


def test_duplicates_across_files(folder: Path) -> None:
    write(
        folder,
        main="include: a.yaml\nwebapps: {x: {}}\nmax_cached: 2K\n",
        a="webapps: {x: {}}\nmax_cached: 3K\n",
    )
    assert wrong(folder) == [
        'a.yaml:1:11: "x" must be written once, it is already at main.yaml:2:11',
        'a.yaml:2:1: "max_cached" must be written once, it is already at main.yaml:3:1',
    ]


@pytest.mark.parametrize("target", ["main.yaml", "a.yaml", "./../{top}/main.yaml", "*.yaml"])
def test_circles_are_found(folder: Path, target: str) -> None:
    write(folder, main="include: a.yaml", a=f"include: ['{target.replace('{top}', folder.name)}']")
    assert all("must not go round in circles" in problem for problem in wrong(folder))


def test_one_file_twice_is_not_a_circle_but_a_duplicate(folder: Path) -> None:
    write(folder, main="include: [a.yaml, a.yaml]", a="max_cached: 2K")
    assert wrong(folder) == ['a.yaml:1:1: "max_cached" must be written once, it is already at a.yaml:1:1']


@pytest.mark.parametrize(
    ("main", "problem"),
    [
        ("include: [1]", "main.yaml:1:11: include must be a list of files, not 1"),
        ("include: ['']", 'main.yaml:1:11: include must be a list of files, not ""'),
        ("include: [[a]]", "main.yaml:1:11: include must be a list of files, not a list"),
        ("include: {a: b}", "main.yaml:1:10: stage: include must be text, not a mapping"),
        ("include: list.yaml", "list.yaml:1:1: must be a mapping to be included, not a list"),
        ("include: .", '"." must be a readable file: not a regular file'),
    ],
)
def test_includes_that_are_wrong(folder: Path, main: str, problem: str) -> None:
    write(folder, main=main, list="- a\n")
    assert any(found.endswith(problem.removeprefix("*")) for found in wrong(folder))


def test_too_many_files(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hemi.expand.MAX_FILES", 3)
    write(folder, main="include: [a/*.yaml]", **{f"a__{n}": "" for n in range(9)})
    assert wrong(folder) == ["main.yaml:1:11: include must lead to at most 3 files"]


# Constants and variables


def test_directories_environment_and_constants(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HEMI_PORT", "8080")
    monkeypatch.delenv("HEMI_NONE", raising=False)
    stage = load(
        """
constants: {host: example.com, url: "https://${host}/", n: 3, on: true}
webapps:
  a:
    hostnames: ["${host}", "www.${host}"]
    workers: ${env:HEMI_NONE:-7}
    settings:
      top: ${top_dir}/x
      dirs: ["${log_dir}", "${tmp_dir}", "${var_dir}"]
      url: ${url}a
      port: ${env:HEMI_PORT}
      text: "${env:HEMI_PORT}!"
      whole: "${n}"
      on: ${on}
      empty: ${env:HEMI_NONE:-}
      literal: $${host} $$x $x
"""
    )
    webapp = stage.members["webapps"]["a"]
    assert webapp.hostnames == ["example.com", "www.example.com"]
    assert webapp.workers == 7
    assert webapp.settings == {
        "top": "/top/x",
        "dirs": ["/top/log", "/top/tmp", "/top/var"],
        "url": "https://example.com/a",
        "port": 8080,
        "text": "8080!",
        "whole": 3,
        "on": True,
        "empty": None,
        "literal": "${host} $$x $x",
    }


def test_an_empty_variable_counts_as_missing_when_there_is_a_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HEMI_EMPTY", "")
    settings = (
        load("webapps: {a: {settings: {a: '${env:HEMI_EMPTY:-x}', b: 'y${env:HEMI_EMPTY}'}}}")
        .members["webapps"]["a"]
        .settings
    )
    assert settings == {"a": "x", "b": "y"}


def test_a_replacement_is_not_replaced_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HEMI_EVIL", "${top_dir}")
    webapp = load("webapps: {a: {settings: {a: '${env:HEMI_EVIL}'}}}").members["webapps"]["a"]
    assert webapp.settings == {"a": "${top_dir}"}


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("max_cached: ${nope}", "it:1:13: there is no constant ${nope}; write $${ for ${ itself"),
        ("max_cached: ${topdir}", 'it:1:13: there is no constant ${topdir}, did you mean "top_dir"?'),
        (
            "max_cached: ${env:HEMI_NONE}",
            "it:1:13: ${env:HEMI_NONE} must be in the environment, HEMI_NONE is not set",
        ),
        ("max_cached: ${}", "it:1:13: there is no constant ${}; write $${ for ${ itself"),
        (
            "constants: {top_dir: x}",
            'it:1:13: constants must have new names of letters, digits and _, not "top_dir"',
        ),
        ("constants: {a-b: x}", 'it:1:13: constants must have new names of letters, digits and _, not "a-b"'),
        ("constants: {a: [1]}", 'it:1:16: constants "a" must be one value, not a list'),
        ("constants: [a]", "it:1:12: stage: constants must be a mapping, not a list"),
        ('constants: {a: "${b}", b: x}', "it:1:16: there is no constant ${b}; write $${ for ${ itself"),
    ],
)
def test_variables_that_are_wrong(text: str, problem: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HEMI_NONE", raising=False)
    assert problem in problems(text)


def test_constants_do_not_explode() -> None:
    lines = ["constants:", f"  c0: {'x' * 1000}"] + [f"  c{n}: " + f"${{c{n - 1}}}" * 10 for n in range(1, 9)]
    assert any(
        "must have at most 65536 characters after ${…} is replaced" in problem
        for problem in problems("\n".join(lines))
    )


def test_constants_of_several_files(folder: Path) -> None:
    write(
        folder,
        main="include: a.yaml\nconstants: {x: 1}\nwebapps: {a: {settings: {v: '${x}${y}'}}}",
        a="constants: {y: 2}",
    )
    assert load_main(folder).members["webapps"]["a"].settings == {"v": "12"}


# Extensions


EXTENSION = """
from hemi.component import prop
from tests.samples import Handlet

class Hello(Handlet, sign="hello_ext"):
    greeting: str = prop("hello")
"""


@pytest.fixture
def modules(folder: Path) -> Iterator[Path]:
    before, path = set(sys.modules), list(sys.path)
    yield folder
    sys.path[:] = path
    for name in set(sys.modules) - before:
        if name.startswith("hemi_ext"):
            del sys.modules[name]


def test_extensions_define_components(modules: Path) -> None:
    (modules / "hemi_ext1.py").write_text(EXTENSION.replace("from __future__", ""))
    write(
        modules,
        main="extensions: [hemi_ext1]\nwebapps: {a: {rules: [{handlets: [{hello_ext: {greeting: hi}}]}]}}",
    )
    stage = load_main(modules)
    assert stage.members["webapps"]["a"].rules[0].handlets[0].greeting == "hi"
    assert stage.extensions == ["hemi_ext1"]


def test_extensions_that_fail_say_why_and_can_be_mended(modules: Path) -> None:
    module = modules / "hemi_ext2.py"
    module.write_text(EXTENSION + "\n1 / 0\n")
    write(modules, main="extensions: [hemi_ext2, os..path, 7, hemi_ext_no]")
    found = wrong(modules)
    assert found == [
        (
            'main.yaml:1:14: extensions must be importable, not "hemi_ext2": '
            f"ZeroDivisionError: division by zero ({module}:8)"
        ),
        'main.yaml:1:25: extensions must be names of modules, not "os..path"',
        "main.yaml:1:35: extensions must be names of modules, not 7",
        (
            'main.yaml:1:38: extensions must be importable, not "hemi_ext_no": '
            "ModuleNotFoundError: No module named 'hemi_ext_no'"
        ),
    ]
    module.write_text(EXTENSION)
    write(modules, main="extensions: hemi_ext2")
    load_main(modules)


@pytest.mark.parametrize(
    "code",
    ["raise SystemExit(3)", "def (", "import hemi_ext_missing", EXTENSION.replace("str =", "'Nowhere' =")],
)
def test_nothing_escapes_from_extensions(modules: Path, code: str) -> None:
    (modules / "hemi_ext3.py").write_text(code)
    write(modules, main="extensions: [hemi_ext3]")
    assert len(wrong(modules)) == 1
    assert len(wrong(modules)) == 1
