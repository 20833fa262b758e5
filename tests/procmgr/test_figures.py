"""Meters through reloads, and orders about parts of a stage."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from hemi import meter as m
from hemi.errors import UsageError
from hemi.procmgr.figures import Meters
from hemi.procmgr.orders import ORDERS


def stage(count: int, in_flight: int = 0) -> Any:
    meter = m.new_meter()
    meter[2], meter[m.BEGUN] = count, count + in_flight
    members = {"webapps": {"shop": SimpleNamespace(meter=meter)}, "loggers": {"log": SimpleNamespace()}}
    return SimpleNamespace(members=members, log=SimpleNamespace(level="info"), log_level="info")


class Backend:
    """What the orders need of one."""

    def __init__(self) -> None:
        self.orders: list[tuple[str, Any]] = []

    def describe(self) -> dict[str, Any]:
        return {"name": "api"}

    def node(self, key: str) -> Any:
        return SimpleNamespace(describe=lambda: {"address": key})

    def order_node(self, key: str, order: str) -> None:
        if key == "none":
            raise LookupError('backend "api" has no node "none"')
        if order == "sideways":
            raise ValueError("the state of a node must be up, down")
        self.orders.append((key, order))

    def weigh_node(self, key: str, weight: int) -> None:
        self.orders.append((key, weight))


def worker(*stages: Any) -> Any:
    keeper = SimpleNamespace(current=stages[0] if stages else None)
    return SimpleNamespace(
        meters=Meters(), stages=lambda: list(stages), figures=lambda: {"conns": 3}, keeper=keeper
    )


def ask(who: Any, name: str, **args: Any) -> Any:
    return ORDERS[name](who, args, lambda data: None)


def test_counts_outlive_their_stage() -> None:
    meters = Meters()
    old, new = stage(5, in_flight=1), stage(3, in_flight=2)
    assert m.requests(meters.collect([new, old])["webapps shop"]) == 8
    assert m.in_flight(meters.collect([new, old])["webapps shop"]) == 3
    meters.retire(old)
    total = meters.collect([new])["webapps shop"]
    assert m.requests(total) == 8
    assert m.in_flight(total) == 2


def test_figures_are_short() -> None:
    told = ask(worker(stage(5)), "figures")
    assert told == {"meters": {"webapps shop": [5, 0, 5]}, "conns": 3}


def test_log_levels() -> None:
    one, two = stage(0), stage(0)
    who = worker(one, two)
    assert ask(who, "log") == {"level": "info"}
    assert ask(who, "log", level="debug") == {"level": "debug"}
    assert two.log.level == "debug"
    assert who.log_order == ("debug", "info")


def test_nodes_are_ordered_and_weighed() -> None:
    with_backend = stage(0)
    backend = Backend()
    with_backend.members["backends"] = {"api": backend}
    who = worker(with_backend)
    assert ask(who, "backends") == {"backends": [{"name": "api"}]}
    assert ask(who, "node", backend="api", node="a:1", state="down") == {"node": {"address": "a:1"}}
    ask(who, "node", backend="api", node="a:1", state="5")
    assert backend.orders == [("a:1", "down"), ("a:1", 5)]
    for fault in (
        {"backend": "apo", "node": "a:1", "state": "up"},
        {"backend": "api", "node": "none", "state": "up"},
        {"backend": "api", "node": "a:1", "state": "sideways"},
    ):
        with pytest.raises(UsageError):
            ask(who, "node", **fault)
