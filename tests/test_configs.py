"""Golden configurations: each file of configs/ is a configuration, a line of dashes, and exactly what is wrong with it.

What loads ends in `ok`; its effective configuration must load again and be the same. Adding a case is adding a file.
"""

from __future__ import annotations

from pathlib import Path

import jsonschema
import pytest

import hemi.builtin  # noqa: F401 (registers the components)
from hemi.config import Dirs, effective, load_text
from hemi.errors import ConfigError
from hemi.reference import schema
from hemi.source import Reader

FOLDER = Path(__file__).parent / "configs"
DASHES = "---expect---\n"
CASES = sorted(path.name for path in FOLDER.glob("*.yaml"))


def outcome(text: str, name: str) -> str:
    """What the loader says of a text: the problems, one a line, or ok."""
    dirs = Dirs.below(str(FOLDER))
    try:
        stage = load_text(text, dirs, name)
    except ConfigError as error:
        return "".join(f"{problem}\n".replace(f"{FOLDER}/", "") for problem in error.problems)
    printed = effective(stage)
    assert effective(load_text(printed, dirs, "printed")) == printed
    return "ok\n"


@pytest.mark.parametrize("name", CASES)
def test_golden(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GOLDEN_PORT", "8080")
    monkeypatch.delenv("GOLDEN_NONE", raising=False)
    text, dashes, expected = (FOLDER / name).read_text(encoding="utf-8").partition(DASHES)
    assert dashes, "the dashes are missing"
    assert outcome(text, name) == expected


def test_the_schema_takes_what_loads() -> None:
    validator = jsonschema.Draft202012Validator(schema())
    for name in CASES:
        text, _, expected = (FOLDER / name).read_text(encoding="utf-8").partition(DASHES)
        root = Reader().read(text, name)
        if expected == "ok\n" and root is not None:
            assert [(name, error.message) for error in validator.iter_errors(root.plain())] == []


def test_there_are_many_and_most_are_wrong() -> None:
    wrong = [
        name for name in CASES if not (FOLDER / name).read_text(encoding="utf-8").endswith(f"{DASHES}ok\n")
    ]
    assert len(CASES) >= 70
    assert len(wrong) > len(CASES) / 2
