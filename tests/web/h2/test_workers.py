"""Greenlets that are kept for the next task."""

from __future__ import annotations

import gevent
import pytest

from hemi.web.h2 import workers
from tests.webkit import until


def test_tasks_run_in_order_and_share_greenlets() -> None:
    seen: list[tuple[int, object]] = []
    for number in range(5):
        workers.run(lambda number=number: seen.append((number, gevent.getcurrent())))  # type: ignore[misc]
        gevent.sleep(0)
        until(lambda number=number: len(seen) == number + 1)
    assert [number for number, _ in seen] == list(range(5))
    assert len({greenlet for _, greenlet in seen}) == 1


def test_one_that_waits_does_not_hold_up_the_next() -> None:
    go, seen = gevent.event.Event(), []
    workers.run(lambda: (go.wait(10), seen.append("first")))  # type: ignore[arg-type, return-value]
    workers.run(lambda: seen.append("second"))
    until(lambda: seen == ["second"])
    go.set()
    until(lambda: seen == ["second", "first"])


def test_few_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workers, "MAX_IDLE", len(workers._idle) + 2)
    go = gevent.event.Event()
    done: list[object] = []
    for _ in range(20):
        workers.run(lambda: (go.wait(10), done.append(gevent.getcurrent())))  # type: ignore[arg-type, return-value]
    go.set()
    until(lambda: len(done) == 20)
    assert len(workers._idle) <= workers.MAX_IDLE


def test_a_stray_timeout_or_kill_of_an_idle_one_hurts_nobody() -> None:
    seen: list[object] = []
    workers.run(lambda: seen.append(gevent.getcurrent()))
    (worker,) = until(lambda: seen)
    until(lambda: worker in workers._idle)
    worker.kill()
    assert worker.dead and worker not in workers._idle
    workers.run(lambda: seen.append(gevent.getcurrent()))
    until(lambda: len(seen) == 2)


def test_a_task_that_fails_ends_its_greenlet_only(capfd: pytest.CaptureFixture[str]) -> None:
    def fail() -> None:
        raise ZeroDivisionError

    workers.run(fail)
    seen: list[int] = []
    workers.run(lambda: seen.append(1))
    until(lambda: seen)
    assert "ZeroDivisionError" in capfd.readouterr().err
