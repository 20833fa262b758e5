"""Windows of what comes in: few updates, and growth for fast readers only."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from hemi.web.h2.inflow import Inflow


def test_updates_come_by_halves() -> None:
    flow = Inflow(100, 100)
    assert flow.receive(60)
    assert flow.take(49) == 0
    assert flow.take(1) == 50
    assert flow.left == 90
    assert not flow.receive(91)


def test_a_starving_reader_makes_it_grow() -> None:
    flow = Inflow(100, 250)
    flow.receive(80)
    assert flow.take(40) == 0
    assert flow.starve() == 140  # the 40 that were read, and as much again as there was
    assert flow.window == 200
    flow.receive(flow.left)
    flow.take(10)
    assert flow.starve() == 60
    assert flow.window == 250
    assert flow.starve() == 0
    assert repr(flow) == f"<Inflow left={flow.left} of 250>"


def test_a_window_that_is_hardly_used_does_not_grow() -> None:
    flow = Inflow(100, 1000)
    flow.receive(10)
    flow.take(10)
    assert flow.starve() == 10
    assert flow.window == 100


@given(st.lists(st.tuples(st.sampled_from(["receive", "take", "starve"]), st.integers(0, 300)), max_size=60))
def test_what_is_allowed_and_held_is_never_more_than_the_window(steps: list[tuple[str, int]]) -> None:
    flow, held = Inflow(100, 400), 0
    for step, size in steps:
        if step == "receive":
            size = min(size, flow.left)
            assert flow.receive(size)
            held += size
        elif step == "take":
            size = min(size, held)
            flow.take(size)
            held -= size
        else:
            flow.starve()
        assert flow.left + held + flow.taken == flow.window <= 400
