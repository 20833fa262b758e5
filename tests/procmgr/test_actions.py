"""The table of actions fits to what the leader can do, and to what can be shown."""

from __future__ import annotations

import hemi.procmgr.controls  # noqa: F401
from hemi.procmgr import views
from hemi.procmgr.actions import ACTIONS, ALIASES, OPTIONS
from hemi.procmgr.commands import COMMANDS
from tests.running import TOP_DIR


def test_every_action_is_a_command_and_the_other_way_round() -> None:
    assert set(ACTIONS) == set(COMMANDS)


def test_tables_fit_together() -> None:
    assert not set(ALIASES) & set(ACTIONS)
    assert set(ALIASES.values()) <= set(ACTIONS)
    for action in ACTIONS.values():
        assert set(action.options) <= set(OPTIONS)


def test_every_answer_has_a_view() -> None:
    assert set(ACTIONS) - {"top"} == set(views._VIEWS)


def test_the_guide_tells_every_action_and_option() -> None:
    guide = (TOP_DIR / "docs" / "operation" / "control.md").read_text()
    for action, each in ACTIONS.items():
        assert f"`{action} {each.words}".strip().replace("|", "\\|") + "`" in guide
    for option in OPTIONS:
        assert f"`--{option}" in guide
