"""The `app` handlet: loading. What apps do is in the tests of the framework."""

from __future__ import annotations

import sys
import time
from pathlib import Path

import pytest

import hemi.builtin.handlets.app  # noqa: F401
from hemi.errors import ConfigError
from tests import webkit


def load(text: str, spec: str, folder: Path) -> None:
    name = f"framework_app_{time.monotonic_ns()}"
    (folder / f"{name}.py").write_text(text)
    rules = [{"handlets": [{"app": {"app": spec.format(name)}}]}]
    stage = webkit.load(webkit.config(rules=rules), str(folder))
    stage.prepare()
    stage.stop(time.monotonic())


@pytest.fixture(autouse=True)
def path(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", list(sys.path))


GOOD = "from hemi.web.framework import App\napp = App()\napp.get('/')(lambda req: '')\ndef make():\n    return app\n"


@pytest.mark.parametrize("spec", ["{}:app", "{}:make()"])
def test_apps_and_factories(spec: str, tmp_path: Path) -> None:
    load(GOOD, spec, tmp_path)


@pytest.mark.parametrize(
    ("text", "spec", "message"),
    [
        ("app = 7", "{}:app", "must be an App of hemi.web.framework, not 7"),
        ("1 / 0", "{}:app", "ZeroDivisionError"),
        (GOOD + "app.get('/')(lambda req: '')", "{}:app", "GET / is declared twice"),
        (GOOD + "app.get('/<x:y>')(lambda req, y: '')", "{}:app", "there is no converter 'x'"),
        (GOOD + "app.get('/<y>')(lambda req: '')", "{}:app", "has no parameter y"),
        ("", "{}", 'must be "module:attr"'),
    ],
)
def test_problems_are_found_when_the_configuration_is_checked(
    text: str, spec: str, message: str, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match=message.replace("(", r"\(")):
        load(text, spec, tmp_path)
