from __future__ import annotations

from pathlib import Path

from hemi.config import load_text
from hemi.procmgr.program import GOROX, Program
from hemi.source import Dirs


def test_gorox() -> None:
    assert GOROX.config_path == "conf/gorox.yaml"
    assert GOROX.components == ("hemi.builtin",)


def test_a_program_of_ones_own() -> None:
    assert Program(name="mine", title="Mine").config_path == "conf/mine.yaml"
    assert Program(name="mine", title="Mine", config="mine.yaml").config_path == "mine.yaml"


def test_the_embedded_configuration_loads(dirs: Dirs) -> None:
    assert GOROX.embedded is not None
    stage = load_text(GOROX.embedded(), dirs)
    webapp = stage.members["webapps"]["welcome"]
    assert (Path(webapp.web_root) / "index.html").is_file()  # type: ignore[attr-defined]
