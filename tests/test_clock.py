"""The Date line."""

from __future__ import annotations

import email.utils
import time
from collections.abc import Iterator
from typing import Any

import gevent
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hemi.clock import Clock, http_date


def test_the_example_of_the_rfc() -> None:
    assert http_date(784111777) == "Sun, 06 Nov 1994 08:49:37 GMT"


@given(st.integers(0, 4_000_000_000))
def test_formatting_agrees_with_the_standard_library(seconds: int) -> None:
    assert http_date(seconds) == email.utils.formatdate(seconds, usegmt=True)


def test_fractions_are_cut() -> None:
    assert http_date(784111777.999) == http_date(784111777)


@pytest.fixture
def clock() -> Iterator[Clock]:
    one = Clock("clock")
    one.prepare()
    yield one
    one.stop(0)


def test_it_is_right_from_prepare_on(clock: Clock) -> None:
    assert abs(clock.second - time.time()) < 2
    assert clock.date_line == b"date: " + http_date(clock.second).encode() + b"\r\n"


def test_it_goes_on_after_start(clock: Clock, monkeypatch: Any) -> None:
    clock.start()
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now + 100)
    with gevent.Timeout(5):
        while clock.second != int(now + 100):
            gevent.sleep(0.01)
    assert clock.date == http_date(now + 100)


def test_a_clock_that_is_set_back_is_followed(clock: Clock, monkeypatch: Any) -> None:
    clock.start()
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now - 3600)
    with gevent.Timeout(5):
        while clock.second != int(now - 3600):
            gevent.sleep(0.01)


def test_stop_is_legal_in_every_state() -> None:
    Clock("clock").stop(0)
    one = Clock("clock")
    one.prepare()
    one.stop(0)
    one.start()
    one.stop(0)
    one.stop(0)
