"""The queue in front of a log's target, and the greenlet that empties it.

Belongs here: gathering lines into large writes, bounding what waits, living with targets that fail, sharing
one queue among all who name the same target (several webapps; two stages during a reload). How bytes get to a
file, a stream or a syslog server is the Writer's business (`logfile`); what a line looks like is
`logformat`'s.

Lines of access logs are made here, many at once, of subjects that were queued: that costs less than half of what it
costs between the system calls of each exchange (docs/performance.md).

The laws: whoever queues a line neither waits nor sees an error. Lines stand in the order in which they were queued; so
do those of subjects, whoever recorded them, up to HOLD seconds later than what was queued as a line. At most `most`
bytes wait; lines beyond are dropped and counted. What could not be written stays queued and is tried again, so that a
short outage loses nothing. The greenlet exists only while there is something to write: an idle log costs no wake-ups.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from time import monotonic
from typing import Any, Protocol

import gevent
from gevent import get_hub, monkey
from gevent.event import Event
from gevent.lock import RLock
from gevent.threadpool import ThreadPool

__all__ = ["MOST_SUBJECTS", "Shortfall", "Sink", "Writer", "acquire", "complain"]

MOST_SUBJECTS = 64  # so many at most are kept for lines that are still to be made
HOLD = 0.01  # seconds that a subject waits for others at most; its line tells a time that is late by as much
HIGH = 256 << 10  # bytes; when so many wait, they are written at once: larger writes are not cheaper any more
RETRY = 1.0  # seconds between attempts at a target that fails
PERIOD = 60.0  # seconds between reports of the same trouble

Render = Callable[[list[Any]], list[bytes]]
"""Makes the lines of subjects. Never raises; what has no line is left out."""

_select = monkey.get_original("select", "select")


class Shortfall(Exception):
    """A target took only the first `done` lines, because of `error`."""

    def __init__(self, done: int, error: OSError) -> None:
        self.done = done
        self.error = error
        super().__init__(done, error)


class Writer(Protocol):
    """Takes lines to a target. Called by one greenlet at a time."""

    target: str
    blocks: bool  # write may wait for somebody else and must run in a thread

    def open(self) -> None:
        """Raises OSError."""

    def reopen(self) -> None:
        """Raises OSError, and goes on with what is open then."""

    def write(self, lines: list[bytes]) -> None:
        """Writes lines, which have their newlines. Raises Shortfall."""

    def close(self) -> None: ...


class Sink:
    """A bounded queue of lines for one target.

    `subjects` and `render` are public for the sake of compiled recorders: what lines are still to be made of, and what
    makes the line of the last one. A recorder appends its subject, behind a call of `turn_to` when `render` is not its
    own or there are MOST_SUBJECTS. In the hub's thread only.
    """

    def __init__(self, writer: Writer, *, interval: float = 0.1, most: int = 4 << 20) -> None:
        self.writer = writer
        self.interval = interval  # seconds that a line waits for others at most
        self.most = most
        self.subjects: list[Any] = []
        self.render: Render | None = None
        self.lines: list[bytes] = []
        self.pending = 0  # bytes in lines; threads may make it inexact for a moment
        self.limit = 0  # 0: nothing waits and no greenlet runs, so the first line calls press
        self.dropped = 0
        self.users = 0
        self.closed = True
        self._hurry = False
        self._reopen = False
        self._failing: OSError | None = None
        self._reported = -PERIOD
        self._reported_drops = 0
        self._runs: list[tuple[int, Render]] = []  # where in subjects those of another render begin
        self._is_held = False  # the timer runs
        self._timer: Any = None
        self._lock = RLock()
        self._urgent = Event()
        self._task: gevent.Greenlet[..., Any] | None = None
        self._poke: Any = None
        self._pool: ThreadPool | None = None

    def __repr__(self) -> str:
        state = "closed" if self.closed else "failing" if self._failing else "good"
        return f"<Sink {self.writer.target} {state} pending={self.pending} dropped={self.dropped}>"

    def open(self) -> None:
        """Open the target. Raises OSError."""
        self.writer.open()
        if self.writer.blocks:
            self._pool = ThreadPool(1)
        loop = get_hub().loop
        self._timer = loop.timer(0, HOLD, ref=False)
        self._poke = loop.async_(ref=False)
        self._poke.start(self._on_poke)
        self.closed = False

    def put(self, line: bytes) -> None:
        """Queue a line, which ends with a newline. From any thread."""
        self.lines.append(line)
        self.pending = pending = self.pending + len(line)
        if pending > self.limit:
            self.press()

    def turn_to(self, render: Render) -> None:
        """Make room for a subject whose line `render` will make, HOLD seconds from now at the latest."""
        if self.closed:
            self.subjects.clear()
            self.dropped += 1
            return
        if len(self.subjects) >= MOST_SUBJECTS:
            self.settle()
        self.render = render
        self._runs.append((len(self.subjects), render))
        if not self._is_held:
            self._is_held = True
            self._timer.again(self._on_timer)

    def settle(self) -> None:
        """Make the lines of `subjects` now."""
        subjects, runs = self.subjects[:], self._runs
        self.subjects.clear()
        self._runs, self.render = [], None
        ends = [*(begin for begin, _ in runs[1:]), len(subjects)]
        lines = []
        for (begin, render), end in zip(runs, ends, strict=False):
            lines += render(subjects[begin:end])
        if not lines:
            return
        size = sum(map(len, lines))
        if self.pending + size > self.most:
            for line in lines:
                self.put(line)
            return
        self.lines += lines
        self.pending += size
        if self.pending > self.limit:
            self.press()

    def press(self) -> None:
        """More waits than `limit`: get the greenlet going, hurry it, or drop the newest line."""
        if self.pending > self.most or self.closed:
            try:
                self.pending -= len(self.lines.pop())
            except IndexError:  # a thread was faster
                return
            self.dropped += 1
        elif self.limit:
            self.limit = self.most
            self._hurry = True
            self._poke.send()
        else:
            self.limit = min(HIGH, self.most)
            self._poke.send()

    def reopen(self) -> None:
        """Have the target reopened soon, after what waits was written to the old one. From any thread."""
        self._reopen = True
        if not self.closed:
            self._poke.send()

    def flush(self) -> bool:
        """Write what waits; False when the target fails and something is left. In the hub's thread only."""
        with self._lock:
            self.settle()
            good = self._write()
            if self._reopen:
                self._reopen = False
                try:
                    self.writer.reopen()
                except OSError as e:
                    complain(f"logger: {self.writer.target} cannot be reopened: {e.strerror}")
            self._report()
            return good

    def close(self, deadline: float) -> None:
        """Write what waits until `deadline` (monotonic seconds), then close. What is left is dropped."""
        if self.closed:
            return
        with gevent.Timeout(max(0.0, deadline - monotonic()) + 0.05, False):  # type: ignore[arg-type]
            self.flush()
        self.settle()
        self.closed = True
        self.limit = 0
        if self._task is not None:
            self._task.kill(block=False)
        self._timer.stop()
        self._timer.close()
        self._poke.stop()
        self._poke.close()
        self.dropped += len(self.lines)
        self.lines.clear()
        self.pending = 0
        self._reported = -PERIOD
        self._report()
        self.writer.close()

    def _on_timer(self) -> None:
        self._is_held = False
        self._timer.stop()
        self.settle()

    def _on_poke(self) -> None:
        if self._task is None or self._task.ready():
            self._task = gevent.spawn(self._run)
        if self._hurry or self._reopen:
            self._urgent.set()

    def _run(self) -> None:
        """Write until nothing waits any more."""
        while True:
            if not (self._hurry or self._reopen):
                self._urgent.wait(self.interval)
            self._urgent.clear()
            self._hurry = False
            if not self.flush():
                self._urgent.wait(RETRY)
            elif not self.lines:
                self.limit = 0
                if not self.lines:
                    return
                self.limit = min(HIGH, self.most)  # a thread queued one just before limit was 0

    def _write(self) -> bool:
        lines = self.lines[:]
        done = len(lines)
        if not done:
            return True
        error = None
        try:
            if self._pool is not None:
                self._pool.apply(self.writer.write, (lines,))
            else:
                self.writer.write(lines)
        except Shortfall as e:
            done, error = e.done, e.error
        del self.lines[:done]
        self.pending -= sum(map(len, lines[:done]))
        if self.limit and self.pending < HIGH:
            self.limit = min(HIGH, self.most)
        self._note(error)
        return error is None

    def _note(self, error: OSError | None) -> None:
        if error is None and self._failing is not None:
            self._reported = -PERIOD  # the good news at once
            complain(f"logger: {self.writer.target} works again")
        self._failing = error

    def _report(self) -> None:
        """Tell about trouble on stderr, once a period."""
        drops = self.dropped - self._reported_drops
        if not (self._failing or drops) or monotonic() - self._reported < PERIOD:
            return
        reason = (self._failing.strerror or str(self._failing)) if self._failing else "lines dropped"
        complain(f"logger: {self.writer.target}: {reason} ({drops} lines dropped, {len(self.lines)} waiting)")
        self._reported = monotonic()
        self._reported_drops = self.dropped


_sinks: dict[str, Sink] = {}


def acquire(key: str, make: Callable[[], Writer]) -> Sink:
    """The process's sink for a target, opened when it is new; to be given to `release`. Raises OSError."""
    sink = _sinks.get(key)
    if sink is None:
        sink = Sink(make())
        sink.open()
        _sinks[key] = sink
    sink.users += 1
    return sink


def release(key: str, sink: Sink, deadline: float) -> None:
    """Give a sink back; its last user flushes and closes it."""
    sink.users -= 1
    if sink.users:
        sink.flush()
        return
    if _sinks.get(key) is sink:
        del _sinks[key]
    sink.close(deadline)


def complain(text: str) -> None:
    """Tell stderr about trouble with a log, if it listens: this never waits and never raises."""
    try:
        if _select([], [2], [], 0)[1]:
            os.write(2, (text[:4000] + "\n").encode("utf-8", "backslashreplace"))
    except (OSError, ValueError):
        pass  # nobody is left to be told
