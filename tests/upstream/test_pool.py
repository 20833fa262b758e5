"""Pools of idle connections, with a clock made of numbers and channels that do what they are told."""

from __future__ import annotations

import math
from types import SimpleNamespace
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from hemi.upstream.pool import Conn, Limits, Pool


class Channel:
    """Stands for a channel."""

    def __init__(self) -> None:
        self.deadline = 7.0
        self.quiet = True
        self.closed = False

    def is_quiet(self) -> bool:
        return self.quiet and not self.closed

    def close(self) -> None:
        self.closed = True


def conn(now: float = 0.0, channels: set[Any] | None = None) -> Any:
    channel = Channel()
    node: Any = SimpleNamespace(key="n:1", conns=0, backend=SimpleNamespace(channels=channels or set()))
    node.backend.channels.add(channel)
    return Conn(node, channel, now)  # type: ignore[arg-type]


def filled(*conns: Any, now: float = 0.0, **limits: Any) -> Pool:
    pool = Pool(Limits(**limits))
    for one in conns:
        pool.give_back(one, now)
    return pool


def test_the_last_one_goes_out_first() -> None:
    first, second = conn(), conn()
    pool = filled(first, second)
    assert [pool.take(1.0), pool.take(1.0), pool.take(1.0)] == [second, first, None]


def test_idle_ones_have_no_deadline() -> None:
    one = conn()
    filled(one)
    assert one.channel.deadline == math.inf


def test_uses_are_counted() -> None:
    one = conn()
    pool = filled(one)
    assert (one.uses, one.reused) == (1, False)
    pool.take(1.0)
    assert (one.uses, one.reused) == (2, True)


def test_what_is_dead_or_talks_is_closed_and_the_next_one_taken() -> None:
    good, dead = conn(), conn()
    pool = filled(good, dead)
    dead.channel.quiet = False
    assert pool.take(1.0) is good
    assert dead.channel.closed
    assert not dead.node.backend.channels


def test_idle_for_too_long() -> None:
    one = conn()
    pool = filled(one, idle_timeout=10.0)
    assert pool.take(10.0) is None
    assert one.channel.closed


def test_too_old_when_taken_and_when_given_back() -> None:
    one, two = conn(0.0), conn(5.0)
    pool = filled(one, two, now=9.0, conn_age=10.0)
    assert pool.take(10.0) is two
    assert pool.take(10.0) is None
    pool.give_back(two, 15.0)
    assert (pool.idle, two.channel.closed) == ([], True)


def test_used_often_enough() -> None:
    one = conn()
    pool = filled(one, conn_uses=2)
    pool.take(0.0)
    pool.give_back(one, 0.0)
    assert (pool.idle, one.channel.closed) == ([], True)


def test_beyond_the_bound_the_oldest_goes() -> None:
    conns = [conn() for _ in range(4)]
    pool = filled(*conns, idle_conns=2)
    assert pool.idle == conns[2:]
    assert [one.channel.closed for one in conns] == [True, True, False, False]


def test_no_idle_ones_at_all() -> None:
    one = conn()
    assert filled(one, idle_conns=0).idle == []
    assert one.channel.closed


def test_sweeping() -> None:
    old, dead, good = conn(), conn(), conn()
    pool = filled(old, now=0.0, idle_timeout=10.0)
    pool.give_back(dead, 5.0)
    pool.give_back(good, 5.0)
    dead.channel.quiet = False
    pool.sweep(12.0)
    assert pool.idle == [good]
    assert old.channel.closed
    assert dead.channel.closed


def test_clearing() -> None:
    one = conn()
    pool = filled(one)
    pool.clear()
    assert (pool.idle, one.channel.closed) == ([], True)


@given(st.lists(st.tuples(st.sampled_from("tgds"), st.floats(0, 8)), max_size=60))
def test_any_use_keeps_the_laws(events: list[tuple[str, float]]) -> None:
    pool = Pool(Limits(idle_conns=3, idle_timeout=10.0, conn_age=30.0, conn_uses=4))
    now, mine, made = 0.0, [], []
    for event, passed in events:
        now += passed
        if event == "t":
            one = pool.take(now)
            if one is None:
                one = conn(now)
                made.append(one)
            assert not one.channel.closed
            assert now - one.born < 30.0
            mine.append(one)
        elif event == "g" and mine:
            pool.give_back(mine.pop(), now)
        elif event == "d" and pool.idle:
            pool.idle[0].channel.quiet = False
        elif event == "s":
            pool.sweep(now)
        assert len(pool.idle) <= 3
        assert not set(map(id, pool.idle)) & set(map(id, mine))
        assert all(one.uses <= 4 for one in made)
        open_ones = [one for one in made if not one.channel.closed]
        assert sorted(map(id, open_ones)) == sorted(map(id, pool.idle + mine))


def test_there_are_limits_by_default() -> None:
    assert Limits().idle_conns < math.inf
