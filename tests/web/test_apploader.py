"""Importing apps."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from hemi.web.apploader import AppError, is_patched, load, problem_of


@pytest.fixture(autouse=True)
def path(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", list(sys.path))


@pytest.mark.parametrize("spec", ["a:b", "a.b_c:d.e", "a:b()", "ä:b"])
def test_good_specs(spec: str) -> None:
    assert problem_of(spec) is None


@pytest.mark.parametrize(
    "spec", ["", "a", "a:", ":b", "a.:b", "a:b(1)", "a b:c", "a:b:c", "1a:b", "a:b.", "os;x:y", "a:b()()"]
)
def test_bad_specs(spec: str) -> None:
    assert "module:attr" in (problem_of(spec) or "")
    with pytest.raises(AppError, match="module:attr"):
        load(spec)


def test_attributes_and_factories(tmp_path: Path) -> None:
    (tmp_path / "loader_a.py").write_text("class Box:\n    app = 7\ndef make():\n    return Box\n")
    assert load("loader_a:Box.app", [str(tmp_path)]) == 7
    assert load("loader_a:make()").app == 7


def test_python_path_keeps_its_order_and_comes_first(tmp_path: Path) -> None:
    folders = [str(tmp_path / name) for name in ("one", "two")]
    for folder in folders:
        os.mkdir(folder)
        Path(folder, "loader_b.py").write_text(f"here = {folder!r}\n")
    assert load("loader_b:here", folders) == folders[0]
    assert sys.path[:2] == folders
    load("loader_b:here", folders)
    assert sys.path.count(folders[0]) == 1


def test_the_environment_is_set_before_the_import(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GOROX_LOADER", "before")
    (tmp_path / "loader_c.py").write_text("import os\nseen = os.environ['GOROX_LOADER']\n")
    assert load("loader_c:seen", [str(tmp_path)], {"GOROX_LOADER": "set"}) == "set"


def test_a_traceback_has_only_the_frames_of_the_app(tmp_path: Path) -> None:
    (tmp_path / "loader_d.py").write_text("import loader_e\n")
    (tmp_path / "loader_e.py").write_text("def f():\n    raise KeyError('x')\nf()\n")
    with pytest.raises(AppError) as caught:
        load("loader_d:app", [str(tmp_path)])
    head, *lines = str(caught.value).split("\n")
    assert head == "'loader_d:app' cannot be imported: KeyError: 'x'"
    assert lines[0] == "    Traceback (most recent call last):"
    assert 'loader_d.py", line 1' in lines[1]
    text = "\n".join(lines)
    assert 'loader_e.py", line 2, in f' in text
    assert "apploader.py" not in text and "importlib" not in text


def test_a_module_that_failed_can_be_mended(tmp_path: Path) -> None:
    module = tmp_path / "loader_f.py"
    module.write_text("import nosuchmodule\n")
    with pytest.raises(AppError, match="No module named 'nosuchmodule'"):
        load("loader_f:app", [str(tmp_path)])
    module.write_text("app = 'mended'  # longer than before\n")
    sys.modules.pop("loader_f", None)
    assert load("loader_f:app") == "mended"


def test_gevent_has_patched() -> None:
    assert is_patched()
