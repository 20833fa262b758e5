"""Token buckets, against a plain model with a fake clock."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hemi.library.tokenbucket import TokenBuckets


def test_a_burst_then_the_rate() -> None:
    buckets = TokenBuckets(rate=2, capacity=3, most=10)
    assert [buckets.take("a", 100).allowed for _ in range(4)] == [True, True, True, False]
    assert buckets.take("b", 100).allowed
    refused = buckets.take("a", 100)
    assert (refused.allowed, refused.wait, refused.left, refused.full_in) == (False, 0.5, 0, 1.5)
    assert not buckets.take("a", 100.4).allowed
    taken = buckets.take("a", 100.5)
    assert (taken.allowed, taken.wait, taken.left, taken.full_in) == (True, 0, 0, 1.5)
    assert buckets.take("a", 1000).left == 2


def test_waiting_in_a_row() -> None:
    buckets = TokenBuckets(rate=10, capacity=1, most=10)
    assert [round(buckets.take("a", 0, max_wait=0.25).wait, 6) for _ in range(3)] == [0, 0.1, 0.2]
    refused = buckets.take("a", 0, max_wait=0.25)
    assert not refused.allowed and refused.wait == pytest.approx(0.05)


def test_giving_back() -> None:
    buckets = TokenBuckets(rate=1, capacity=1, most=10)
    assert buckets.take("a", 0).allowed and not buckets.take("a", 0).allowed
    buckets.give_back("a")
    buckets.give_back("unknown")
    assert buckets.take("a", 0).allowed


def test_the_table_is_bounded() -> None:
    buckets = TokenBuckets(rate=1, capacity=1, most=100)
    for number in range(1000):
        buckets.take(str(number), 0)
    assert len(buckets) == 100 and buckets.evicted == 900
    for number in range(1000, 1060):
        buckets.take(str(number), 50)
    assert len(buckets) == 60 and buckets.evicted == 900  # what is full is no loss, and goes for good


@given(
    st.integers(1, 50),
    st.integers(1, 20),
    st.lists(st.tuples(st.floats(0, 5), st.integers(1, 5)), max_size=50),
)
def test_as_a_bucket_that_is_filled(rate: int, capacity: int, steps: list[tuple[float, int]]) -> None:
    buckets = TokenBuckets(rate, capacity, 10)
    tokens, now = float(capacity), 0.0
    for pause, amount in steps:
        now += pause
        tokens = min(capacity, tokens + pause * rate)
        if abs(tokens - amount) < 1e-4:
            return  # a hair's breadth
        taken = buckets.take("a", now, amount)
        assert taken.allowed == (tokens > amount)
        if taken.allowed:
            tokens -= amount
            assert taken.left in (int(tokens - 1e-3), int(tokens + 1e-3))
        else:
            assert taken.wait == pytest.approx((amount - tokens) / rate, abs=1e-4)
