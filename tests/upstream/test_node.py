"""Nodes: states, warming up, latency, what they take over, what operators see."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from hemi.upstream.breaker import Breaker, Rules
from hemi.upstream.node import Node
from tests.upstream.kit import Running

Run = Callable[..., Running]


def node(run: Run, more: str = "", properties: str = "") -> Any:
    backend = run(f'b: {{type: echo_backend, nodes: [{{address: "127.0.0.1:9"{properties}}}]{more}}}')["b"]
    return backend.roster.nodes[0]


def test_states_in_words(run: Run) -> None:
    one = node(run, ", slow_start: 10s, max_fails: 1")
    seen = [(one.status, one.why)]
    one.share = 0.1
    seen.append((one.status, one.why))
    one.reason = "head: garbage"
    one.breaker.failure(0.0)
    seen.append((one.status, one.why))
    one.breaker.tick(100.0)
    seen.append((one.status, one.why))
    one.sick["tcp check"] = "connect: refused"
    seen.append((one.status, one.why))
    one.order = "draining"
    seen.append((one.status, one.why))
    one.gone = True
    seen.append((one.status, one.why))
    assert seen == [
        ("up", ""),
        ("warming", ""),
        ("down", "head: garbage"),
        ("probing", "head: garbage"),
        ("down", "tcp check: connect: refused"),
        ("draining", "ordered"),
        ("gone", "ordered"),
    ]


def test_warming_up(run: Run) -> None:
    one = node(run, ", slow_start: 10s", ", weight: 20")
    one.warm_from = 100.0
    shares = []
    for now in (100.0, 100.5, 105.0, 110.0, 999.0):
        one.warm_up(now)
        shares.append(one.share)
    assert shares == [2.0, 2.0, 10.0, 20.0, 20.0]


def test_no_slow_start(run: Run) -> None:
    one = node(run)
    one.warm_from = 100.0
    one.warm_up(100.0)
    assert one.share == 1.0


def test_latencies_are_forgotten(run: Run) -> None:
    one = node(run)
    one.latency, one.sampled = 0.1, 100.0
    one.backend.tick(104.0)
    assert one.latency == 0.1
    one.backend.tick(106.0)
    assert one.latency == pytest.approx(0.09)  # nobody asks it: it gets its chance again


def test_what_operators_see(run: Run) -> None:
    assert node(run, "", ", weight: 3, max_conns: 5, tier: 1").describe() == {
        "address": "127.0.0.1:9",
        "state": "up",
        "why": "",
        "weight": 3,
        "share": 3.0,
        "tier": 1,
        "max_conns": 5,
        "in_flight": 0,
        "conns": 0,
        "idle_conns": 0,
        "latency": 0.0,
        "leases": 0,
        "failures": 0,
        "last_failure": "",
    }


def test_what_it_inherits_from_the_backend(run: Run) -> None:
    one = node(run, ", max_conns: 7, tls_server_name: api.test")
    assert (one.max_conns, one.tls_server_name) == (7, "api.test")
    other = node(run, ", max_conns: 7, tls_server_name: api.test", ", max_conns: 2, tls_server_name: b.test")
    assert (other.max_conns, other.tls_server_name) == (2, "b.test")


def test_its_repr_and_its_label(run: Run) -> None:
    one = node(run)
    assert repr(one) == "<Node 127.0.0.1:9 up in_flight=0>"
    assert one.label == 'node "127.0.0.1:9"'
    assert Node().label == "node"


def test_a_breaker_that_is_off_adopts_nothing() -> None:
    broken = Breaker(Rules(max_fails=1))
    broken.failure(0.0)
    off = Breaker(Rules(max_fails=0))
    off.adopt(broken)
    assert off.state == "closed"
