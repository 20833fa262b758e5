"""The roster: tiers, panic, limits, the queue. Nodes are plain objects; nothing is connected."""

from __future__ import annotations

from time import monotonic
from typing import Any

import gevent
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hemi.upstream.balancers import First, RoundRobin
from hemi.upstream.breaker import Breaker, Rules
from hemi.upstream.errors import NoNodeAvailable, QueueTimeout
from hemi.upstream.lease import Lease
from hemi.upstream.node import Node
from hemi.upstream.roster import Roster
from tests.upstream.kit import spawned


def node(key: str, tier: int = 0, max_conns: int = 0, probes: int = 1) -> Any:
    one = Node()
    one.key, one.tier, one.max_conns, one.weight, one.tag = key, tier, max_conns, 1, f"tag-{key}"
    one.breaker = Breaker(Rules(max_fails=1, probes=probes))
    return one


def roster(*nodes: Any, **options: Any) -> Roster:
    one = Roster("api", options.pop("balancer", RoundRobin()), **options)
    one.nodes = list(nodes)
    one.refresh()
    return one


class Asker(Lease):
    """A lease without a backend."""

    __slots__ = ()

    def __init__(self, tag: str = "", tried: tuple[Any, ...] = (), deadline: float = float("inf")) -> None:
        super().__init__(None, None, deadline, tag)  # type: ignore[arg-type]
        self.tried = tried


def choose(one: Roster, **keywords: Any) -> str:
    return one.choose(Asker(**keywords)).key


def test_all_are_ready() -> None:
    a, b = node("a"), node("b")
    one = roster(a, b)
    assert one.ready == [a, b]
    assert [choose(one), choose(one), choose(one)] == ["a", "b", "a"]
    assert (a.in_flight, b.in_flight) == (2, 1)


@pytest.mark.parametrize("order", ["draining", "down", "disabled"])
def test_orders(order: Any) -> None:
    a, b = node("a"), node("b")
    a.order = order
    assert roster(a, b).ready == [b]


def test_sick_and_broken_ones_are_left_out() -> None:
    a, b, c = node("a"), node("b"), node("c")
    a.sick["tcp check"] = "connection refused"
    b.breaker.failure(0.0)
    assert roster(a, b, c).ready == [c]


def test_backups_are_used_when_nothing_else_is_there() -> None:
    a, b, spare = node("a"), node("b"), node("spare", tier=1)
    one = roster(a, b, spare)
    assert one.ready == [a, b]
    a.sick["x"] = b.sick["x"] = "y"
    one.refresh()
    assert (one.ready, one.panic) == ([spare], False)


def test_backups_are_tried_when_all_others_were() -> None:
    a, spare = node("a"), node("spare", tier=1)
    one = roster(a, spare)
    assert choose(one, tried=(a,)) == "spare"
    with pytest.raises(NoNodeAvailable, match="all 2 usable nodes were tried"):
        choose(one, tried=(a, spare))


def test_panic_uses_all_that_no_operator_took_out() -> None:
    nodes = [node(key) for key in "abcd"]
    one = roster(*nodes, panic_threshold=50)
    nodes[3].order = "disabled"
    nodes[0].sick["x"] = "y"
    one.refresh()
    assert (one.ready, one.panic) == (nodes[1:3], False)  # 2 of 3
    nodes[1].sick["x"] = "y"
    one.refresh()
    assert (one.ready, one.panic) == (nodes[:3], True)  # 1 of 3
    nodes[0].sick.clear()
    one.refresh()
    assert not one.panic


def test_without_panic_there_may_be_none() -> None:
    a, b = node("a"), node("b")
    a.sick["x"] = "y"
    b.order = "draining"
    one = roster(a, b, panic_threshold=0)
    with pytest.raises(
        NoNodeAvailable, match='backend "api": choose: no node can be used: 1 down, 1 draining'
    ):
        choose(one)
    assert one.refused == 1


def test_a_tier_with_too_few_is_passed_over_before_all_panic() -> None:
    nodes = [node(key) for key in "abcd"]
    spare = node("spare", tier=1)
    for sick in nodes[:3]:
        sick.sick["x"] = "y"
    one = roster(*nodes, spare, panic_threshold=50)
    assert (one.ready, one.panic) == ([spare], False)
    assert choose(one, tried=(spare,)) == "d"  # better than nothing


def test_no_nodes() -> None:
    with pytest.raises(NoNodeAvailable, match="it has no nodes"):
        choose(roster())


def test_a_tag_leads_to_its_node_even_when_that_drains() -> None:
    a, b = node("a"), node("b")
    one = roster(a, b)
    assert [choose(one, tag="tag-b") for _ in range(3)] == ["b"] * 3
    b.order = "draining"
    one.refresh()
    assert choose(one, tag="tag-b") == "b"
    b.order = "down"
    one.refresh()
    assert choose(one, tag="tag-b") == "a"
    assert choose(one, tag="nonsense") == "a"


def test_a_tag_is_no_claim_to_a_node_that_failed() -> None:
    a, b = node("a"), node("b")
    assert choose(roster(a, b), tag="tag-b", tried=(b,)) == "a"


def test_full_nodes_are_passed_over() -> None:
    a, b = node("a", max_conns=1), node("b", max_conns=2)
    one = roster(a, b, balancer=First())
    assert one.careful
    assert [choose(one) for _ in range(3)] == ["a", "b", "b"]
    with pytest.raises(NoNodeAvailable, match="queue: all nodes are full"):
        choose(one)


def test_a_half_open_node_gets_its_probes_only() -> None:
    a, b = node("a", probes=2), node("b")
    a.breaker.failure(0.0)
    a.breaker.tick(1000.0)
    one = roster(a, b, balancer=First())
    assert [choose(one) for _ in range(4)] == ["a", "a", "b", "b"]


def test_where_no_other_works_probes_are_not_limited() -> None:
    a = node("a")
    a.breaker.failure(0.0)
    one = roster(a, panic_threshold=1)
    assert one.panic
    a.breaker.tick(1000.0)
    one.refresh()
    assert [choose(one) for _ in range(5)] == ["a"] * 5
    one.panic_threshold = 0
    one.refresh()
    assert one.careful


def test_who_came_first_is_served_first() -> None:
    a = node("a", max_conns=1)
    one = roster(a, queue_size=10, queue_timeout=5.0)
    choose(one)
    served: list[int] = []

    def wait(number: int) -> None:
        one.choose(Asker())
        served.append(number)

    tasks = [spawned(wait, number) for number in range(3)]
    assert len(one.queue) == 3
    for done in range(3):
        one.release(a)
        assert a.in_flight == 1  # handed over at once
        with pytest.raises(gevent.Timeout), gevent.Timeout(0):
            choose(one)  # who comes now has to wait
        gevent.sleep(0)
        assert served == list(range(done + 1))
    gevent.joinall(tasks, timeout=5, raise_error=True)
    one.release(a)
    assert (a.in_flight, one.queue) == (0, {})


def test_the_queue_is_bounded() -> None:
    a = node("a", max_conns=1)
    one = roster(a, queue_size=1, queue_timeout=5.0)
    choose(one)
    waiting = spawned(choose, one)
    with pytest.raises(NoNodeAvailable, match="all nodes are full, and 1 wait already"):
        choose(one)
    one.release(a)
    assert waiting.get(timeout=5) == "a"


def test_waiting_ends() -> None:
    a = node("a", max_conns=1)
    one = roster(a, queue_size=1, queue_timeout=0.01)
    choose(one)
    with pytest.raises(QueueTimeout, match=r"all nodes stayed full for 0\.01 s") as caught:
        choose(one)
    assert caught.value.timed_out
    one.queue_timeout = 60.0
    with pytest.raises(QueueTimeout):
        choose(one, deadline=monotonic())
    assert (a.in_flight, one.queue) == (1, {})


def test_timeouts_of_others_pass_through() -> None:
    a = node("a", max_conns=1)
    one = roster(a, queue_size=1, queue_timeout=5.0)
    choose(one)
    with pytest.raises(gevent.Timeout) as caught, gevent.Timeout(0.01) as timer:
        choose(one)
    assert caught.value is timer
    assert one.queue == {}


def test_a_place_for_who_has_gone_goes_to_the_next() -> None:
    a = node("a", max_conns=1)
    one = roster(a, queue_size=5, queue_timeout=5.0)
    choose(one)
    first, second = spawned(choose, one), spawned(choose, one)
    first.kill(block=False)  # it does not know yet
    one.release(a)
    assert list(one.queue) != []  # the place is the first one's
    assert a.in_flight == 1
    assert second.get(timeout=5) == "a"
    one.release(a)
    assert a.in_flight == 0


def test_who_waits_for_its_own_node_keeps_nobody_waiting() -> None:
    a, b = node("a", max_conns=1), node("b", max_conns=1)
    one = roster(a, b, queue_size=5, queue_timeout=5.0)
    choose(one), choose(one)
    sticky = spawned(lambda: choose(one, tag="tag-a"))
    other = spawned(choose, one)
    one.release(b)
    assert other.get(timeout=5) == "b"
    assert not sticky.ready()
    one.release(a)
    assert sticky.get(timeout=5) == "a"


def test_a_new_node_serves_those_who_wait() -> None:
    a = node("a", max_conns=1)
    one = roster(a, queue_size=5, queue_timeout=5.0)
    choose(one)
    waiting = spawned(choose, one)
    one.nodes.append(node("b"))
    one.refresh()
    assert waiting.get(timeout=5) == "b"


def test_the_last_node_that_goes_ends_the_waiting() -> None:
    a = node("a", max_conns=1)
    one = roster(a, queue_size=5, queue_timeout=5.0)
    choose(one)
    waiting = spawned(choose, one)
    a.order = "disabled"
    one.refresh()
    with pytest.raises(NoNodeAvailable, match="1 disabled"):
        waiting.get(timeout=5)


def test_closing_ends_the_waiting() -> None:
    a = node("a", max_conns=1)
    one = roster(a, queue_size=5, queue_timeout=5.0)
    choose(one)
    waiting = spawned(choose, one)
    one.close("the stage stops")
    with pytest.raises(NoNodeAvailable, match="the stage stops"):
        waiting.get(timeout=5)
    with pytest.raises(NoNodeAvailable):
        choose(one)


@given(
    st.lists(st.tuples(st.integers(0, 2), st.sampled_from("uswdx")), min_size=1, max_size=8),
    st.integers(0, 100),
)
def test_whoever_is_ready_may_be(states: list[tuple[int, str]], threshold: int) -> None:
    nodes = []
    for number, (tier, state) in enumerate(states):
        one = node(str(number), tier)
        if state == "s":
            one.sick["x"] = "y"
        elif state == "w":
            one.breaker.failure(0.0)
        one.order = {"d": "draining", "x": "disabled"}.get(state, "up")
        nodes.append(one)
    rost = roster(*nodes, panic_threshold=threshold)
    enabled = [one for one in nodes if one.order == "up"]
    usable = [one for one in enabled if one.is_usable]
    assert set(rost.ready) <= set(enabled)
    assert rost.panic or set(rost.ready) <= set(usable)
    assert len({one.tier for one in rost.ready}) <= 1
    if usable or (enabled and threshold):
        assert rost.ready
    if rost.panic:
        assert threshold > 0
    elif rost.ready and rost.ready[0].tier > 0:  # no lower tier had enough
        for tier in range(rost.ready[0].tier):
            all_of = [one for one in enabled if one.tier == tier]
            up = [one for one in all_of if one.is_usable]
            assert not up or len(up) * 100 < threshold * len(all_of) or threshold == 0


@given(
    st.lists(st.integers(0, 2), min_size=1, max_size=4),
    st.lists(st.tuples(st.sampled_from("crksdub"), st.integers(0, 9)), max_size=40),
)
def test_no_place_is_ever_lost(limits: list[int], events: list[tuple[str, int]]) -> None:
    """Callers come, leave, are killed; nodes go down, drain, come back: what is taken is what somebody holds."""
    nodes = [node(str(number), max_conns=limit) for number, limit in enumerate(limits)]
    one = roster(*nodes, queue_size=5, queue_timeout=60.0, panic_threshold=1)
    held: list[Any] = []
    tasks: list[Any] = []

    def call() -> None:
        held.append(one.choose(Asker()))

    for event, number in events:
        some = nodes[number % len(nodes)]
        if event == "c":
            tasks.append(spawned(_quietly, call))
        elif event == "r" and held:
            one.release(held.pop(number % len(held)))
        elif event == "k" and tasks:
            tasks[number % len(tasks)].kill(block=False)
        elif event == "s":
            some.sick["x"] = "y"
            one.refresh()
        elif event == "d":
            some.order = "draining"
            one.refresh()
        elif event == "u":
            some.sick.clear()
            some.order = "up"
            one.refresh()
        if number > 4:
            gevent.sleep(0)
    gevent.sleep(0)
    for some in nodes:
        assert some.in_flight == sum(1 for other in held if other is some)
        assert some.in_flight <= some.limit
    for waiting in one.queue:
        assert one.find(waiting) is None  # who waits has a reason
    while held:
        one.release(held.pop())
        gevent.sleep(0)
    one.close("the test is over")
    gevent.joinall(tasks, timeout=5, raise_error=True)
    assert [some.in_flight for some in nodes] == [0] * len(nodes)


def _quietly(function: Any) -> None:
    try:
        function()
    except NoNodeAvailable:
        pass
