"""Balancers: distributions, by example and by hypothesis; chance is a seeded generator."""

from __future__ import annotations

import random
from collections import Counter
from types import SimpleNamespace
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from hemi.upstream.balancers import (
    First,
    Hashed,
    LeastConn,
    LeastTime,
    Random,
    RandomTwo,
    RoundRobin,
    seed_of,
)


def node(key: str, share: float = 1.0, in_flight: int = 0, latency: float = 0.0) -> Any:
    return SimpleNamespace(
        key=key, seed=seed_of(key), share=share, in_flight=in_flight, latency=latency, turn=0.0
    )


def group(*shares: float) -> list[Any]:
    return [node("abcdefghijklmnopqrstuvwxyz"[at], share) for at, share in enumerate(shares)]


def keys(balancer: Any, nodes: list[Any], count: int, subject: Any = None) -> str:
    return "".join(balancer.pick(nodes, subject).key for _ in range(count))


def test_round_robin_is_smooth() -> None:
    assert keys(RoundRobin(), group(5, 1, 1), 14) == "aabacaa" * 2


def test_round_robin_of_equals_takes_turns() -> None:
    assert keys(RoundRobin(), group(1, 1, 1), 6) == "abcabc"


@given(st.lists(st.integers(1, 100), min_size=1, max_size=8))
def test_round_robin_is_exact_over_a_cycle(weights: list[int]) -> None:
    nodes = group(*weights)
    counts = Counter(keys(RoundRobin(), nodes, sum(weights)))
    assert [counts[one.key] for one in nodes] == weights


@given(st.lists(st.integers(1, 20), min_size=2, max_size=6), st.data())
def test_round_robin_goes_on_fairly_when_nodes_come_and_go(weights: list[int], data: st.DataObject) -> None:
    balancer, nodes = RoundRobin(), group(*weights)
    for _ in range(5):
        ready = data.draw(st.lists(st.sampled_from(nodes), min_size=1, unique_by=id))
        keys(balancer, ready, data.draw(st.integers(0, 30)))
    total = sum(weights)
    counts = Counter(keys(balancer, nodes, 20 * total))
    for one in nodes:
        assert abs(counts[one.key] - 20 * one.share) <= 2 * total


def test_random_follows_the_shares() -> None:
    counts = Counter(keys(Random(random.Random(1).random), group(6, 3, 1), 10_000))
    assert [round(counts[key] / 1000) for key in "abc"] == [6, 3, 1]


def test_random_at_the_edges() -> None:
    nodes = group(1, 1)
    assert Random(lambda: 0.0).pick(nodes, None) is nodes[0]
    assert Random(lambda: 1.0 - 2**-53).pick(nodes, None) is nodes[1]
    assert Random(lambda: 1.0).pick(nodes, None) is nodes[1]  # what rounding could make


def test_random_two_takes_the_less_busy_one() -> None:
    nodes = group(1, 1, 1)
    nodes[0].in_flight = 9
    counts = Counter(keys(RandomTwo(random.Random(1).random), nodes, 3000))
    assert counts["a"] == 0  # there always is a better one
    assert abs(counts["b"] - counts["c"]) < 300


def test_random_two_keeps_the_longest_queue_short() -> None:
    nodes = group(*[1.0] * 20)
    balancer = RandomTwo(random.Random(2).random)
    for _ in range(2000):
        balancer.pick(nodes, None).in_flight += 1
    assert max(one.in_flight for one in nodes) <= 105


@given(st.lists(st.tuples(st.integers(1, 10), st.integers(0, 30)), min_size=1, max_size=8))
def test_least_conn_is_least(loads: list[tuple[int, int]]) -> None:
    nodes = [node(str(at), share, busy) for at, (share, busy) in enumerate(loads)]
    picked = LeastConn().pick(nodes, None)
    assert (picked.in_flight + 1) / picked.share == min((one.in_flight + 1) / one.share for one in nodes)


def test_least_conn_of_equals_takes_turns() -> None:
    assert sorted(keys(LeastConn(), group(1, 1, 1), 3)) == ["a", "b", "c"]


@given(st.lists(st.integers(1, 10), min_size=1, max_size=6))
def test_least_conn_fills_in_proportion(weights: list[int]) -> None:
    nodes = group(*weights)
    balancer = LeastConn()
    for _ in range(10 * sum(weights)):
        balancer.pick(nodes, None).in_flight += 1
    for one in nodes:
        assert abs(one.in_flight - 10 * one.share) <= 1


def test_least_time_prefers_the_fast_until_they_are_busy() -> None:
    slow, fast = node("s", latency=0.1), node("f", latency=0.02)
    balancer = LeastTime()
    picks = []
    for _ in range(12):
        picked = balancer.pick([slow, fast], None)
        picked.in_flight += 1
        picks.append(picked.key)
    assert Counter(picks) == {"f": 10, "s": 2}


def test_least_time_tries_the_unknown_first() -> None:
    assert LeastTime().pick([node("a", latency=0.001), node("b")], None).key == "b"


def keyed(key: str) -> Any:
    return SimpleNamespace(key=key)


def hashed() -> Hashed:
    return Hashed(lambda subject: str(subject.key))


def test_hash_is_the_same_everywhere() -> None:
    nodes = group(1, 1, 1, 1)
    assert "".join(hashed().pick(nodes, keyed(str(n))).key for n in range(16)) == "cddbdabdcbcdaada"


@given(st.text(max_size=20), st.integers(2, 8), st.data())
def test_hash_moves_only_the_keys_of_a_node_that_goes(key: str, size: int, data: st.DataObject) -> None:
    nodes = group(*[1.0] * size)
    before = hashed().pick(nodes, keyed(key))
    gone = data.draw(st.sampled_from(nodes))
    after = hashed().pick([one for one in nodes if one is not gone], keyed(key))
    assert after is before or before is gone


@given(st.text(max_size=20), st.lists(st.integers(1, 9), min_size=2, max_size=6), st.data())
def test_hash_moves_keys_only_to_a_node_that_grows(key: str, weights: list[int], data: st.DataObject) -> None:
    nodes = group(*weights)
    before = hashed().pick(nodes, keyed(key))
    grown = data.draw(st.sampled_from(nodes))
    grown.share *= 2
    after = hashed().pick(nodes, keyed(key))
    assert after is before or after is grown


def test_hash_follows_the_shares() -> None:
    counts = Counter(hashed().pick(group(6, 3, 1), keyed(f"user-{n}")).key for n in range(20_000))
    assert [round(counts[key] / 2000) for key in "abc"] == [6, 3, 1]


def test_hash_does_not_depend_on_the_order() -> None:
    nodes = group(1, 2, 3, 4)
    for n in range(100):
        assert hashed().pick(nodes, keyed(str(n))) is hashed().pick(nodes[::-1], keyed(str(n)))


def test_hash_takes_odd_texts() -> None:
    assert hashed().pick(group(1, 1), keyed("\udcff"))


def test_first_is_first() -> None:
    assert keys(First(), group(1, 9), 3) == "aaa"
