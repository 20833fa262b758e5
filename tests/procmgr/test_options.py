from __future__ import annotations

import os
import stat
from dataclasses import fields
from pathlib import Path

import pytest

from hemi.errors import EnvError, UsageError
from hemi.procmgr.options import ACTIONS, OPTIONS, make_dirs, parse, usage
from hemi.procmgr.program import GOROX
from hemi.procmgr.settings import Settings
from tests.running import TOP_DIR


def test_nothing_means_serve_in_the_current_directory() -> None:
    options = parse(GOROX, [])
    assert options.action == "serve"
    assert options.config is None
    assert options.top_dir == os.getcwd()
    assert options.log_dir == os.path.join(os.getcwd(), "data/log")
    assert options.given == frozenset()


@pytest.mark.parametrize("spelling", ["--top-dir", "-top-dir", "-topDir", "--topDir", "--top_dir"])
@pytest.mark.parametrize("joined", [True, False])
def test_spellings(spelling: str, joined: bool) -> None:
    options = parse(GOROX, [f"{spelling}=/srv"] if joined else [spelling, "/srv"])
    assert options.top_dir == "/srv"
    assert options.var_dir == "/srv/data/var"
    assert options.given == {"top-dir"}


def test_directories_are_below_the_top_directory_unless_absolute() -> None:
    options = parse(GOROX, ["--log-dir", "logs/../l", "--tmp-dir", "/tmp/x"], "/srv/site")
    assert (options.log_dir, options.tmp_dir) == ("/srv/site/l", "/tmp/x")


def test_options_go_before_and_behind_the_action() -> None:
    for argv in (["check", "--print", "--config", "a b"], ["--config", "a b", "--print", "check"]):
        options = parse(GOROX, argv)
        assert (options.action, options.config, options.print) == ("check", "a b", True)


def test_a_value_may_begin_with_a_dash() -> None:
    assert parse(GOROX, ["--config", "-x.yaml"]).config == "-x.yaml"


@pytest.mark.parametrize(
    "argv",
    [
        ["x"],
        ["--x"],
        ["--config"],
        ["--config="],
        ["--debug", "9"],
        ["version", "x"],
        ["help", "a", "b"],
        ["-"],
        ["--"],
        ["--single", "--no-spare"],
        ["--single", "--stderr", "x"],
        ["--stdout", "x"],
    ],
)
def test_usage_errors(argv: list[str]) -> None:
    with pytest.raises(UsageError) as caught:
        parse(GOROX, argv)
    assert "\n" not in str(caught.value)


def test_usage_names_everything() -> None:
    text = usage(GOROX)
    for word in [*ACTIONS, *OPTIONS]:
        assert word in text
    assert "{" not in text


def test_make_dirs(tmp_path: Path) -> None:
    options = parse(GOROX, [], str(tmp_path))
    make_dirs(options)
    make_dirs(options)
    assert stat.S_IMODE(os.stat(options.var_dir).st_mode) == 0o700
    assert stat.S_IMODE(os.stat(options.log_dir).st_mode) == 0o755


def test_make_dirs_only_some(tmp_path: Path) -> None:
    make_dirs(parse(GOROX, [], str(tmp_path)), ("tmp-dir",))
    assert os.listdir(tmp_path / "data") == ["tmp"]


def test_make_dirs_that_cannot_be(tmp_path: Path) -> None:
    (tmp_path / "data").write_text("")
    with pytest.raises(EnvError, match=r"--log-dir .* cannot be created"):
        make_dirs(parse(GOROX, [], str(tmp_path)))


def test_every_option_and_every_property_of_workers_is_in_the_guide() -> None:
    text = (TOP_DIR / "docs" / "operation" / "running.md").read_text()
    missing = [name for name in OPTIONS if f"--{name}" not in text]
    missing += [each.name for each in fields(Settings) if each.name != "log_level" and each.name not in text]
    assert not missing
