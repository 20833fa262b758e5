"""The circuit breaker, with a clock made of numbers."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from hemi.upstream.breaker import Breaker, Rules


def breaker(**rules: Any) -> Breaker:
    return Breaker(Rules(**rules))


def opened(now: float = 100.0, **rules: Any) -> Breaker:
    one = breaker(max_fails=1, **rules)
    assert one.failure(now)
    return one


def test_it_opens_after_failures_in_a_row() -> None:
    one = breaker(max_fails=3)
    assert [one.failure(1.0) for _ in range(3)] == [False, False, True]
    assert (one.state, one.until) == ("open", 11.0)


def test_a_success_in_between_begins_anew() -> None:
    one = breaker(max_fails=2)
    one.failure(1.0)
    one.success()
    assert not one.failure(1.0)
    assert one.state == "closed"


def test_it_never_opens_when_it_is_off() -> None:
    one = breaker(max_fails=0)
    assert not any(one.failure(float(n)) for n in range(1000))


def test_failures_of_what_was_on_its_way_change_nothing() -> None:
    one = opened()
    assert not one.failure(105.0)
    assert one.until == 110.0


def test_half_open_closes_after_enough_successes() -> None:
    one = opened(probes=2)
    assert not one.tick(109.9)
    assert one.tick(110.0)
    assert one.state == "half-open"
    assert not one.success()
    assert one.success()
    assert one.state == "closed"


def test_a_failed_probe_opens_it_for_twice_as_long_up_to_a_limit() -> None:
    one = opened(fail_timeout=10.0, most_timeout=35.0)
    now, lengths = one.until, []
    for _ in range(4):
        one.tick(now)
        assert one.failure(now)
        lengths.append(one.until - now)
        now = one.until
    assert lengths == [20.0, 35.0, 35.0, 35.0]


def test_having_closed_it_starts_with_the_short_time_again() -> None:
    one = opened()
    one.tick(200.0)
    one.success()
    assert one.failure(300.0)
    assert one.until == 310.0


def test_a_rate_opens_it() -> None:
    one = breaker(max_fails=0, fail_rate=0.5, least_requests=10)
    one.tick(100.0)
    results = []
    for n in range(10):
        one.success()
        results.append(one.failure(100.0 + n / 10))
    assert results == [False] * 4 + [True] + [False] * 5
    assert one.state == "open"


def test_a_rate_is_about_its_window() -> None:
    one = breaker(max_fails=0, fail_rate=0.5, fail_window=10.0, least_requests=4)
    for n in range(100):
        assert not one.failure(n * 5.0)  # never four within ten seconds


def test_reset_forgets() -> None:
    one = opened()
    one.reset()
    assert (one.state, one.fails) == ("closed", 0)


def test_it_adopts_what_its_predecessor_knew() -> None:
    heir = breaker()
    heir.adopt(opened())
    assert (heir.state, heir.until) == ("open", 110.0)
    off = breaker(max_fails=0)
    off.adopt(opened())
    assert off.state == "closed"


@given(st.lists(st.tuples(st.sampled_from("fst"), st.floats(0, 20)), max_size=60), st.integers(1, 3))
def test_any_history_keeps_the_laws(events: list[tuple[str, float]], probes: int) -> None:
    one = breaker(max_fails=3, probes=probes)
    now, row = 0.0, 0
    for event, passed in events:
        now += passed
        before = one.state
        if event == "t":
            one.tick(now)
            assert one.state == before or (before, one.state) == ("open", "half-open")
        elif event == "f":
            row += 1
            changed = one.failure(now)
            assert changed == (before != "open" and one.state == "open")
            assert before != "half-open" or one.state == "open"
            assert before != "closed" or (one.state == "open") == (row >= 3)
        else:
            row = 0
            assert one.success() == (before == "half-open" and one.state == "closed")
        if one.state == "open":
            assert one.until <= now + 60.0
