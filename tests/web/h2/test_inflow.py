"""Windows of what comes in: few updates, and growth for fast readers only."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from hemi.web.h2.inflow import Inflow


def test_updates_come_by_halves() -> None:
    flow = Inflow(100, 100)
    assert flow.receive(60)
    assert flow.take(49, 1.0) == 0
    assert flow.take(1, 1.0) == 50
    assert flow.left == 90
    assert not flow.receive(91)
    assert repr(flow) == "<Inflow left=-1 of 100>"


def used(flow: Inflow, now: float, waited: bool) -> int:
    """Half of the window comes and is read; how much the window grew by it."""
    before, half = flow.window, flow.window // 2
    flow.receive(half)
    flow.starved = waited
    assert flow.take(half, now) == half + flow.window - before
    return flow.window - before


def test_a_fast_reader_of_a_fast_client_makes_it_grow() -> None:
    flow = Inflow(100, 350)
    assert used(flow, 10.0, waited=True) == 0
    assert used(flow, 10.1, waited=True) == 100
    assert used(flow, 10.2, waited=True) == 150
    assert used(flow, 10.3, waited=True) == 0


def test_slow_readers_and_slow_clients_do_not() -> None:
    flow = Inflow(100, 350)
    used(flow, 10.0, waited=True)
    assert used(flow, 10.1, waited=False) == 0
    assert used(flow, 11.0, waited=True) == 0


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
            flow.take(size, 1.0)
            held -= size
        else:
            flow.starved = True
        assert flow.left + held + flow.taken == flow.window <= 400
