"""The leader's event loop: descriptors, timers, signals, and tasks. One thread, no gevent.

A task is a generator. It yields what it waits for, and the loop goes on with it when that has come:

    def wait_for_end(child):
        yield say(f"worker {child.number} drains")                  # progress, for whoever asked for the task
        ended = yield until(lambda: not child.alive, seconds=30)    # True, or False when the seconds have passed
        if not ended:
            raise CommandError("it does not end")                   # the task's answer is this error
        return {"pid": child.pid}                                   # the task's answer

Conditions are looked at after every event; nothing in the leader changes without one. So a task needs no locks, and
reads from top to bottom. Signal handlers only enqueue.
"""

from __future__ import annotations

import heapq
import itertools
import math
import os
import selectors
import signal
import time
from collections import deque
from collections.abc import Callable, Generator
from types import FrameType
from typing import Any, NamedTuple

__all__ = ["CommandError", "Loop", "Say", "Steps", "Task", "Timer", "Until", "say", "until"]


class CommandError(Exception):
    """A task cannot do what was asked: one line that says what to do. `details` are more lines."""

    def __init__(self, message: str, details: list[str] | None = None) -> None:
        self.details = details or []
        super().__init__(message)


class Until(NamedTuple):
    """A wait: for a condition, no longer than to `deadline` (monotonic seconds)."""

    condition: Callable[[], bool]
    deadline: float


class Say(NamedTuple):
    """Progress to report."""

    data: dict[str, Any]


Steps = Generator[Until | Say, Any, Any]
"""What a task is made of."""


def until(condition: Callable[[], bool], seconds: float = math.inf) -> Until:
    """Waits for a condition; the yield gives True, or False when `seconds` have passed before."""
    return Until(condition, time.monotonic() + seconds)


def pause(seconds: float) -> Until:
    """Waits for so many seconds."""
    return Until(lambda: False, time.monotonic() + seconds)


def say(text: str, **data: Any) -> Say:
    """Reports progress."""
    return Say({"text": text, **data})


class Timer:
    """Calls something later, once, or again and again every `interval` seconds."""

    __slots__ = ("call", "interval")

    def __init__(self, call: Callable[[], None], interval: float) -> None:
        self.call: Callable[[], None] | None = call
        self.interval = interval

    def cancel(self) -> None:
        """Calls it off. Idempotent."""
        self.call = None


class Task:
    """A generator under way. `done(answer, error)` is called at its end, `progress(data)` on the way."""

    def __init__(
        self,
        steps: Steps,
        done: Callable[[Any, Exception | None], None] | None,
        progress: Callable[[dict[str, Any]], None] | None,
    ) -> None:
        self.steps = steps
        self.done = done
        self.progress = progress
        self.wait: Until | None = None
        self.ended = False

    def advance(self, now: float) -> bool:
        """Goes on as far as possible; False when the task can only wait."""
        moved = False
        value: Any = None
        while not self.ended:
            if self.wait is not None:
                if self.wait.condition():
                    value = True
                elif now >= self.wait.deadline:
                    value = False
                else:
                    return moved
                self.wait = None
            moved = True
            self._step(value)
            value = None
        return moved

    def _step(self, value: Any) -> None:
        try:
            item = self.steps.send(value)
        except StopIteration as stop:
            self._end(stop.value, None)
        except Exception as error:
            self._end(None, error)
        else:
            if isinstance(item, Until):
                self.wait = item
            elif self.progress is not None:
                self.progress(item.data)

    def _end(self, answer: Any, error: Exception | None) -> None:
        self.ended = True
        if self.done is not None:
            self.done(answer, error)


class Loop:
    """Runs until `stop`. `complain` is told of exceptions in callbacks; they end nothing."""

    def __init__(self, complain: Callable[[str, Exception], None]) -> None:
        self.complain = complain
        self.selector = selectors.DefaultSelector()
        self.tasks: list[Task] = []
        self.stopped = False
        self._timers: list[tuple[float, int, Timer]] = []
        self._count = itertools.count()
        self._signals: deque[int] = deque()
        self._on_signal: dict[int, Callable[[], None]] = {}
        self._waker, self._wakened = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self.watch(self._waker, selectors.EVENT_READ, self._drain_waker)

    # What happens

    def watch(self, file: Any, events: int, call: Callable[[], None]) -> None:
        """Calls when the descriptor is readable or writable; watching it again changes events and call."""
        try:
            self.selector.modify(file, events, call)
        except KeyError:
            self.selector.register(file, events, call)

    def unwatch(self, file: Any) -> None:
        """Stops watching. Idempotent; to be called before the descriptor is closed."""
        try:
            self.selector.unregister(file)
        except (KeyError, ValueError):
            pass

    def after(self, seconds: float, call: Callable[[], None]) -> Timer:
        """Calls once, later."""
        return self._schedule(seconds, Timer(call, 0.0))

    def every(self, seconds: float, call: Callable[[], None]) -> Timer:
        """Calls again and again."""
        return self._schedule(seconds, Timer(call, seconds))

    def _schedule(self, seconds: float, timer: Timer) -> Timer:
        heapq.heappush(self._timers, (time.monotonic() + seconds, next(self._count), timer))
        return timer

    def on_signal(self, signum: int, call: Callable[[], None]) -> None:
        """Calls after a signal came in, in the loop."""
        self._on_signal[signum] = call
        signal.signal(signum, self._enqueue)
        signal.set_wakeup_fd(self._wakened, warn_on_full_buffer=False)

    def _enqueue(self, signum: int, frame: FrameType | None) -> None:
        self._signals.append(signum)

    def forget_signals(self, default: Callable[[int], Any]) -> None:
        """In a forked child: gives every signal the disposition that `default` says."""
        signal.set_wakeup_fd(-1)
        for signum in self._on_signal:
            signal.signal(signum, default(signum))

    def spawn(
        self,
        steps: Steps,
        done: Callable[[Any, Exception | None], None] | None = None,
        progress: Callable[[dict[str, Any]], None] | None = None,
    ) -> Task:
        """Begins a task; it makes its first step before the loop waits again."""
        task = Task(steps, done, progress)
        self.tasks.append(task)
        return task

    # Running

    def run(self) -> None:
        """Runs until `stop` was called."""
        while True:
            self._run_tasks()
            if self.stopped:
                return
            for key, _ in self.selector.select(self._patience()):
                self._attempt(key.data)
            self._run_signals()
            self._run_timers()

    def stop(self) -> None:
        """Ends `run`."""
        self.stopped = True

    def close(self) -> None:
        """Gives the descriptors back."""
        signal.set_wakeup_fd(-1)
        self.selector.close()
        os.close(self._waker)
        os.close(self._wakened)

    def _attempt(self, call: Callable[[], None]) -> None:
        try:
            call()
        except Exception as error:
            self.complain("something went wrong in the leader", error)

    def _run_tasks(self) -> None:
        moved = True
        now = time.monotonic()  # once: a task that only waits for time must not keep us from what happens
        while moved:
            moved = False
            for task in list(self.tasks):
                try:
                    moved = task.advance(now) or moved
                except Exception as error:
                    task.ended = True
                    self.complain("a task failed", error)
            self.tasks = [task for task in self.tasks if not task.ended]

    def _patience(self) -> float | None:
        waits = [task.wait.deadline for task in self.tasks if task.wait is not None]
        while self._timers and self._timers[0][2].call is None:
            heapq.heappop(self._timers)
        if self._timers:
            waits.append(self._timers[0][0])
        deadline = min(waits, default=math.inf)
        return None if deadline == math.inf else max(0.0, deadline - time.monotonic())

    def _run_timers(self) -> None:
        now = time.monotonic()
        while self._timers and self._timers[0][0] <= now:
            _, _, timer = heapq.heappop(self._timers)
            if timer.call is None:
                continue
            call = timer.call
            if timer.interval:
                self._schedule(timer.interval, timer)
            else:
                timer.cancel()
            self._attempt(call)

    def _run_signals(self) -> None:
        while self._signals:
            call = self._on_signal.get(self._signals.popleft())
            if call is not None:
                self._attempt(call)

    def _drain_waker(self) -> None:
        try:
            while os.read(self._waker, 4096):
                pass
        except BlockingIOError:
            pass
