"""Templates."""

from __future__ import annotations

import sys
from pathlib import Path

import jinja2
import pytest

from hemi.errors import EnvError
from hemi.web.templates import Templates


def test_html_is_escaped_and_text_is_not(tmp_path: Path) -> None:
    for name in ("a.html", "a.txt"):
        (tmp_path / name).write_text("{{ x }}")
    templates = Templates(tmp_path)
    assert templates.render("a.html", x="<&>") == "&lt;&amp;&gt;"
    assert templates.render("a.txt", x="<&>") == "<&>"


def test_a_variable_that_is_missing_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "a.html").write_text("{{ x }}")
    with pytest.raises(jinja2.UndefinedError):
        Templates(tmp_path).render("a.html")


def test_a_template_outside_of_the_folder_is_not_found(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "out.html").write_text("secret")
    with pytest.raises(jinja2.TemplateNotFound):
        Templates(tmp_path / "in").render("../out.html")


def test_without_jinja2_the_message_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "jinja2", None)
    with pytest.raises(EnvError, match=r"gorox\[templates\]"):
        Templates(tmp_path).render("a.html")
