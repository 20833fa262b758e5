"""Settings: what a stage says, the jitter of limits, which limit is exceeded."""

from __future__ import annotations

import time
from dataclasses import fields

from hemi.config import load_text
from hemi.procmgr.child import Child
from hemi.procmgr.settings import JITTER, Settings, settings_of
from hemi.source import Dirs


def test_a_stage_has_every_setting(dirs: Dirs) -> None:
    stage = load_text("max_rss: 300M\nmax_lifetime: 1d\nhang_timeout: 5s", dirs)
    given = settings_of(stage)
    assert set(given) == {each.name for each in fields(Settings)}
    settings = Settings().updated(given)
    assert (settings.max_rss, settings.max_lifetime, settings.hang_timeout) == (300 << 20, 86400, 5)


def test_the_defaults_are_those_of_a_stage(dirs: Dirs) -> None:
    assert Settings().updated(settings_of(load_text("", dirs))) == Settings()


def test_unknown_settings_are_passed_over() -> None:
    assert Settings().updated({"of_the_future": 1}) == Settings()


def test_limits_have_jitter() -> None:
    settings = Settings(max_requests=1000)
    drawn = [settings.thresholds()["max_requests"] for _ in range(100)]
    assert all(1000 * (1 - JITTER) <= each <= 1000 for each in drawn)
    assert len(set(drawn)) > 50
    assert Settings().thresholds() == {}


def test_which_limit_is_exceeded() -> None:
    settings = Settings(max_rss=100, max_requests=10, max_lifetime=1000)
    now = time.monotonic()
    child = Child(1)
    child.was_ready_at = now
    child.thresholds = {"max_rss": 100.0, "max_requests": 10.0, "max_lifetime": 1000.0}
    assert settings.exceeded(child, now) == ""
    child.report = {"requests": 10}
    assert settings.exceeded(child, now) == "max_requests: 10"
    child.report, child.vitals = {}, {"rss": 101}
    assert settings.exceeded(child, now) == "max_rss: 101"
    child.vitals = {}
    assert settings.exceeded(child, now + 1000) == "max_lifetime: 1000"
