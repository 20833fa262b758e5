"""SECURITY row 20: configurations that explode, and secrets that must not show."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

import hemi.builtin  # noqa: F401  registers the components
from hemi.config import effective, load_text
from hemi.errors import ConfigError
from hemi.source import Dirs

SITE = """
webapps:
  main:
    hostnames: ["*"]
    tls_certificate: none.pem
    tls_password: %s
    rules: [{return_code: 200, return_text: fine}]
"""


def problems(text: str, dirs: Dirs) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        load_text(text, dirs)
    return [str(problem) for problem in caught.value.problems]


def test_aliases_cannot_multiply_without_end(dirs: Dirs) -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 12)]
    found = problems("constants:\n  " + "\n  ".join(lines), dirs)
    assert any("must have at most" in problem for problem in found)


def test_depth_is_bounded(dirs: Dirs) -> None:
    found = problems("constants: {a: " + "[" * 5000 + "]" * 5000 + "}", dirs)
    assert len(found) == 1 and "<text>:1:" in found[0]


def test_large_files_are_refused(dirs: Dirs) -> None:
    found = problems("# " + "x" * (2 << 20), dirs)
    assert len(found) == 1 and "must have at most 1 MiB" in found[0]


def test_includes_cannot_go_in_circles(dirs: Dirs) -> None:
    path = Path(dirs.top, "a.yaml")
    path.write_text("include: [a.yaml]\n")
    assert any("a.yaml" in problem for problem in problems("include: [a.yaml]", dirs))


@pytest.mark.parametrize("form", ["hunter2", "{env: TEST_SECRET}", "{file: secret.txt}"])
def test_secrets_are_not_shown(form: str, dirs: Dirs, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TEST_SECRET", "hunter2")
    Path(dirs.top, "secret.txt").write_text("hunter2\n")
    stage = load_text(SITE % form, dirs)
    webapp = stage.members["webapps"]["main"]
    assert webapp.tls_password == "hunter2"  # type: ignore[attr-defined]
    assert "hunter2" not in effective(stage)
    assert "hunter2" not in repr(webapp)


def test_a_secret_that_is_not_there_is_named_not_shown(dirs: Dirs) -> None:
    os.environ.pop("TEST_NO_SECRET", None)
    (problem,) = problems(SITE % "{env: TEST_NO_SECRET}", dirs)
    assert "TEST_NO_SECRET" in problem and "hunter2" not in problem


def test_regexps_cannot_stall(dirs: Dirs) -> None:
    """RE2 runs in linear time: what takes other engines for ever is decided at once."""
    text = SITE % "x" + "servers: {}\n"
    text = text.replace("{return_code:", '{if: $path ~= "^/(a+)+$", return_code:')
    stage = load_text(text, dirs)
    rule = stage.members["webapps"]["main"].rules[0]  # type: ignore[attr-defined]

    class Subject:
        path = "/" + "a" * 50000 + "!"

    assert rule.if_(Subject()) is False
