"""Looks at this very process."""

from __future__ import annotations

import gc
import signal
import time
import tracemalloc
from typing import Any

import gevent
import greenlet
import pytest

from hemi.errors import EnvError
from hemi.procmgr import profiles
from hemi.procmgr.orders import ORDERS
from tests.running import until


def ask(name: str, **args: Any) -> Any:
    return ORDERS[name](None, args, lambda data: None)  # type: ignore[arg-type]


def busy_culprit(seconds: float) -> None:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        sum(range(500))


def test_the_sampler_sees_who_takes_the_processor() -> None:
    look = gevent.spawn(ask, "cpu", seconds=0.3)
    gevent.sleep(0.02)
    busy_culprit(0.4)
    told = look.get(timeout=5)
    counts = {stack[-1]: count for stack, count in told["stacks"]}
    total = sum(counts.values())
    assert total >= 5  # 60 when nobody else wants the processor
    assert (
        sum(count for stack, count in told["stacks"] if any("busy_culprit" in n for n in stack)) > total / 2
    )
    assert told["busy"] > 0.2
    assert signal.getitimer(signal.ITIMER_PROF) == (0.0, 0.0)
    assert signal.getsignal(signal.SIGPROF) != signal.SIG_DFL


def test_one_sampler_at_a_time() -> None:
    look = gevent.spawn(ask, "cpu", seconds=0.2)
    gevent.sleep(0.02)
    with pytest.raises(EnvError, match="sampled already"):
        ask("cpu", seconds=0.1)
    look.get(timeout=5)
    ask("cpu", seconds=0.01)


def test_blocking_calls_are_found() -> None:
    look = gevent.spawn(ask, "block", seconds=0.8, limit=0.1)
    gevent.sleep(0.05)
    busy_culprit(0.4)
    gevent.sleep(0.05)
    told = look.get(timeout=5)
    assert greenlet.gettrace() is None
    call = told["calls"][0]
    assert any("busy_culprit" in line for line in call["stack"]), told
    assert 0.3 < call["longest"] < 0.8
    assert call["count"] == 1


def test_an_idle_hub_blocks_nothing() -> None:
    assert ask("block", seconds=0.3, limit=0.2)["calls"] == []


def test_greenlets_and_what_they_wait_for() -> None:
    event = gevent.event.Event()

    def wait() -> None:
        event.wait()

    some = [gevent.spawn(wait) for _ in range(3)]
    some += [gevent.spawn(gevent.sleep, 60)]
    gevent.sleep(0)
    told = ask("greenlet")
    waits = {group["waits"]: group["count"] for group in told["groups"]}
    assert waits["waits in: event.wait()"] == 3
    assert waits["sleeps"] >= 1
    assert waits["makes this list"] == 1
    assert told["count"] >= 5
    gevent.killall(some)


def test_threads() -> None:
    told = ask("thread")
    main = told["threads"][0]
    assert main["what"] == "it serves"
    assert main["name"] == "main thread"
    assert any("profiles.py" in line for line in main["stack"])


def test_growth_between_two_looks() -> None:
    class Leaked:
        pass

    ask("heap")
    kept = [Leaked() for _ in range(5000)]
    growth = {name: grown for name, _, grown in ask("heap")["types"]}
    found = [grown for name, grown in growth.items() if "Leaked" in name]
    assert found == [5000], growth
    assert len(kept) == 5000


def test_lines_are_traced_when_that_is_wanted() -> None:
    assert not ask("heap")["tracing"]
    first = ask("heap", trace=True)
    try:
        assert first["tracing"]
        assert first["since"] is None
        kept = [bytes(1000) for _ in range(300)]
        second = ask("heap")
        here = [line for line in second["lines"] if "test_profiles.py" in line[0]]
        assert here
        assert here[0][2] > 250_000
        assert len(kept) == 300
    finally:
        assert not ask("heap", trace=False)["tracing"]
    assert not tracemalloc.is_tracing()


def test_the_collector_tells_what_it_found() -> None:
    class Ring:
        def __init__(self) -> None:
            self.me = self

    gc.collect()
    for _ in range(10):
        Ring()
    told = ask("gc")
    assert told["found"] >= 10
    assert told["thresholds"] == list(gc.get_threshold())
    assert until(lambda: told["objects"] > 1000)


def test_paths_are_short() -> None:
    assert profiles._short(profiles.__file__) == "hemi/procmgr/profiles.py"
    assert profiles._short("/x/lib/python3.11/json/decoder.py") == "python3.11/json/decoder.py"
    assert profiles._short("/x/lib/python3.11/site-packages/gevent/hub.py") == "gevent/hub.py"
