"""The leader's loop, in a process of its own: it waits with the real select, and hears real signals."""

from __future__ import annotations

import time
from typing import Any

import pytest

from hemi.procmgr.loop import CommandError, Steps, Task, pause, say, until


class Clock:
    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 100.0
        monkeypatch.setattr(time, "monotonic", lambda: self.now)


def run_task(steps: Steps) -> tuple[Task, list[Any], list[Any]]:
    ends: list[Any] = []
    progress: list[Any] = []
    task = Task(steps, lambda answer, error: ends.append((answer, error)), progress.append)
    return task, ends, progress


def test_a_task_waits_for_conditions(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock(monkeypatch)
    door = {"open": False}

    def steps() -> Steps:
        yield say("waiting", number=1)
        opened = yield until(lambda: door["open"], 5)
        late = yield until(lambda: False, 3)
        return [opened, late]

    task, ends, progress = run_task(steps())
    assert task.advance(clock.now)
    assert progress == [{"text": "waiting", "number": 1}]
    assert not task.advance(clock.now)
    door["open"] = True
    assert task.advance(clock.now)
    clock.now += 3
    assert task.advance(clock.now)
    assert ends == [([True, False], None)]


def test_a_condition_that_holds_needs_no_wait() -> None:
    def steps() -> Steps:
        return (yield until(lambda: True))

    task, ends, _ = run_task(steps())
    task.advance(time.monotonic())
    assert ends == [(True, None)]


@pytest.mark.parametrize("error", [CommandError("no", ["more"]), ZeroDivisionError()])
def test_what_a_task_raises_is_its_answer(error: Exception) -> None:
    def steps() -> Steps:
        yield pause(0)
        raise error

    task, ends, _ = run_task(steps())
    task.advance(time.monotonic())
    task.advance(time.monotonic())
    assert ends == [(None, error)]
    assert task.ended


LOOP = """
import os, signal, sys, time
from hemi.procmgr.loop import Loop, until, pause
log, loop = [], Loop(lambda text, error: log.append(repr(error)))
"""


def in_process(code: str) -> str:
    import subprocess
    import sys

    from tests.running import TOP_DIR

    done = subprocess.run(
        [sys.executable, "-c", LOOP + code],
        cwd=TOP_DIR,
        capture_output=True,
        text=True,
        timeout=20,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_timers_in_order() -> None:
    assert (
        in_process("""
timers = [loop.after(0.02 * n, lambda n=n: log.append(n)) for n in (3, 1, 2)]
timers[2].cancel()
loop.every(0.015, lambda: log.append("tick") if log.count("tick") < 2 else None)
loop.after(0.1, loop.stop)
loop.run()
print(log)
""")
        == "['tick', 1, 'tick', 3]"
    )


def test_signals_wake_it_and_are_handled_in_the_loop() -> None:
    assert (
        in_process("""
loop.on_signal(signal.SIGHUP, lambda: (log.append("hup"), loop.stop()))
loop.after(0.02, lambda: os.kill(os.getpid(), signal.SIGHUP))
loop.run()
print(log)
""")
        == "['hup']"
    )


def test_descriptors_and_tasks() -> None:
    assert (
        in_process("""
reader, writer = os.pipe()
loop.watch(reader, 1, lambda: log.append(os.read(reader, 10)))
def steps():
    yield pause(0.02)
    os.write(writer, b"x")
    got = yield until(lambda: bool(log), 5)
    loop.unwatch(reader); loop.unwatch(reader)
    loop.stop()
    return got
loop.spawn(steps(), lambda answer, error: log.append((answer, error)))
loop.run()
loop.close()
print(log)
""")
        == "[b'x', (True, None)]"
    )


def test_what_goes_wrong_ends_nothing() -> None:
    assert (
        in_process("""
loop.after(0, lambda: 1 / 0)
def steps():
    yield until(lambda: 1 / 0)
loop.spawn(steps())
loop.after(0.05, loop.stop)
loop.run()
print(log)
""")
        == "[\"ZeroDivisionError('division by zero')\", \"ZeroDivisionError('division by zero')\"]"
    )
