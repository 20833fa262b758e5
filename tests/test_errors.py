"""Places, problems and exit codes."""

from __future__ import annotations

from hemi.errors import BugError, ConfigError, EnvError, HemiError, Place, Problem, UsageError


def test_a_place_reads_as_editors_take_it() -> None:
    assert str(Place("conf/gorox.yaml", 21, 17)) == "conf/gorox.yaml:21:17"


def test_a_problem_says_where_what_and_how() -> None:
    place = Place("a.yaml", 2, 1)
    assert (
        str(Problem(place, "static", 'web_root must be a path, not ""'))
        == 'a.yaml:2:1: static: web_root must be a path, not ""'
    )
    assert str(Problem(None, "stage", "x is required")) == "stage: x is required"
    assert str(Problem(place, "", "must be YAML")) == "a.yaml:2:1: must be YAML"


def test_a_config_error_lists_all_problems() -> None:
    error = ConfigError([Problem(None, "a", "one"), Problem(None, "b", "two")])
    assert str(error) == "a: one\nb: two"
    assert len(error.problems) == 2


def test_exit_codes() -> None:
    codes = {cls: cls.exit_code for cls in (HemiError, BugError, UsageError, ConfigError, EnvError)}
    assert list(codes.values()) == [11, 20, 21, 21, 22]
