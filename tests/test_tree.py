"""The tree as a whole: what may import what, what every module needs, what comes with gorox and must work."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

from hemi.config import load_file
from hemi.source import Dirs
from tests.running import TOP_DIR
from toolkit.checks import imports, mirror, refdoc

MODULES = sorted(path for path in TOP_DIR.glob("hemi/**/*.py") if "welcome" not in path.parts)


def name_of(path: Path) -> str:
    words = path.relative_to(TOP_DIR).with_suffix("").parts
    return ".".join(words[:-1] if words[-1] == "__init__" else words)


def test_imports_point_one_way() -> None:
    assert imports.wrong_imports(TOP_DIR) == []


def test_the_import_check_finds_what_is_wrong(tmp_path: Path) -> None:
    (tmp_path / "hemi" / "web").mkdir(parents=True)
    (tmp_path / "hemi" / "stage.py").write_text("def f():\n    from hemi.web.rule import Rule\n")
    (tmp_path / "hemi" / "web" / "rule.py").write_text(
        "import hemi.stage\nfrom ..builtin import x\nfrom hemi import prop\n"
    )
    assert imports.wrong_imports(tmp_path) == [
        "hemi/stage.py:2: core must not import hemi.web.rule of web",
        "hemi/web/rule.py:2: web must not import hemi.builtin of builtin",
    ]


def test_every_module_has_its_tests() -> None:
    assert mirror.untested(TOP_DIR) == []


def test_every_test_file_has_its_module() -> None:
    assert mirror.homeless(TOP_DIR) == []


def test_the_mirror_check_finds_what_is_wrong(tmp_path: Path) -> None:
    for name in (
        "hemi/a/b.py",
        "hemi/a/c.py",
        "hemi/d/e.py",
        "tests/a/test_b.py",
        "tests/test_d.py",
        "tests/a/test_x.py",
    ):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    assert mirror.untested(tmp_path) == ["hemi/a/c.py: there is no tests/a/test_c.py"]
    assert mirror.homeless(tmp_path) == ["tests/a/test_x.py: there is no hemi/a/x.py"]


def test_the_generated_documentation_is_fresh() -> None:
    """Made in a process of its own: what tests register must not be in it."""
    done = subprocess.run(
        [sys.executable, "-m", "toolkit.checks.refdoc", "--check"],
        cwd=TOP_DIR, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr


def test_stale_documentation_is_found(tmp_path: Path) -> None:
    assert sorted(refdoc.stale(tmp_path)) == sorted(refdoc.documents())


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_every_module_says_what_belongs_there(path: Path) -> None:
    tree = ast.parse(path.read_text())
    assert ast.get_docstring(tree) or not tree.body


@pytest.mark.slow
def test_every_module_can_be_imported_first() -> None:
    """In a new process each: a module must not count on another one being there.

    The processes are forks of one that has imported what is not ours, because that takes most of the time. What comes
    with its package always comes with its package first, and was tried there.
    """
    program = """
import gevent.monkey
gevent.monkey.patch_all(os=False, signal=False)  # fork and wait of the system: gevent's missed ends now and then
import argparse, dns.message, email.message, email.utils, gevent.lock, gevent.event, gevent.fileobject, html, httptools
import importlib.metadata, ipaddress, json
import mimetypes, multipart, os, psutil, re2, sys, tempfile, typing, urllib.parse, yaml
failed, brought = [], {}
for name in sys.argv[1:]:
    package = name.rpartition(".")[0]
    if name in brought.get(package, ()):
        brought[name] = brought[package]
        continue
    reader, writer = os.pipe()
    child = os.fork()
    if not child:
        try:
            __import__(name)
        except BaseException as error:
            sys.stderr.write(f"{name}: {error!r}\\n")
            os._exit(1)
        os.write(writer, " ".join(sys.modules).encode())
        os._exit(0)
    os.close(writer)
    with os.fdopen(reader) as file:
        brought[name] = set(file.read().split())
    if os.waitpid(child, 0)[1]:
        failed.append(name)
sys.exit(len(failed))
"""
    names = sorted(name_of(path) for path in MODULES)
    done = subprocess.run(
        [sys.executable, "-c", program, *names],
        cwd=TOP_DIR,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("name", ["hemi", "hemi.errors", "hemi.procmgr.main", "hemi.procmgr.options"])
def test_what_is_imported_before_patching_is_light(name: str) -> None:
    """Neither gevent nor what it must patch first, nor the engine."""
    program = (
        f"import sys, {name}; print(*sorted({{'gevent', 'ssl', 'hemi.stage', 'yaml'}} & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-I", "-c", f"import sys; sys.path.insert(0, {str(TOP_DIR)!r}); {program}"],
        capture_output=True, text=True, timeout=30, check=True,
    )  # fmt: skip
    assert done.stdout.strip() == ""


@pytest.mark.parametrize("path", sorted(TOP_DIR.glob("conf/**/*.yaml")), ids=lambda path: path.name)
def test_every_configuration_that_comes_with_gorox_loads(path: Path, tmp_path: Path) -> None:
    dirs = Dirs(str(TOP_DIR), *(str(tmp_path / name) for name in ("log", "tmp", "var")))
    load_file(str(path), dirs)


def test_scripts_are_executable() -> None:
    scripts = [TOP_DIR / "bin" / "gorox", TOP_DIR / ".ci" / "run"]
    scripts += [TOP_DIR / "toolkit" / name for name in ("bench", "check", "refdoc", "run", "test", "venv")]
    for script in scripts:
        assert script.stat().st_mode & 0o111, script
        assert script.read_text().startswith("#!"), script
