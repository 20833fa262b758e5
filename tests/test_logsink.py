"""The queue of a log: gathering, bounds, outages, sharing."""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Callable, Iterator
from time import monotonic
from typing import Any

import gevent
import pytest
from gevent import monkey
from gevent.threadpool import ThreadPool

from hemi import logsink
from hemi.logsink import Shortfall, Sink, acquire, release


class RealEvent:
    """An event for threads that are no greenlets."""

    def __init__(self) -> None:
        self.lock = monkey.get_original("_thread", "allocate_lock")()
        self.lock.acquire()

    def wait(self, timeout: float) -> None:
        if self.lock.acquire(True, timeout):
            self.lock.release()

    def set(self) -> None:
        self.lock.release()


class Writer:
    """Keeps what it gets; fails on demand."""

    target = "fake"

    def __init__(self, blocks: bool = False) -> None:
        self.blocks = blocks
        self.writes: list[list[bytes]] = []
        self.error: OSError | None = None
        self.takes = 0  # lines before the error
        self.events: list[str] = []
        self.before: Callable[[], None] | None = None

    @property
    def lines(self) -> list[bytes]:
        return [line for lines in self.writes for line in lines]

    def open(self) -> None:
        self.events.append("open")

    def reopen(self) -> None:
        self.events.append(f"reopen after {len(self.lines)}")
        if self.error:
            raise self.error

    def close(self) -> None:
        self.events.append("close")

    def write(self, lines: list[bytes]) -> None:
        if self.before is not None:
            self.before()
        if self.error is not None:
            self.writes.append(lines[: self.takes])
            raise Shortfall(self.takes, self.error)
        self.writes.append(list(lines))


def until(condition: Callable[[], Any], timeout: float = 30.0) -> None:
    with gevent.Timeout(timeout):
        while not condition():
            gevent.sleep(0.002)


@pytest.fixture
def complaints(monkeypatch: Any) -> list[str]:
    said: list[str] = []
    monkeypatch.setattr(logsink, "complain", said.append)
    return said


@pytest.fixture
def make(complaints: list[str]) -> Iterator[Callable[..., tuple[Sink, Writer]]]:
    made = []

    def maker(blocks: bool = False, **settings: Any) -> tuple[Sink, Writer]:
        writer = Writer(blocks)
        sink = Sink(writer, **{"interval": 0.01, **settings})
        sink.open()
        made.append(sink)
        return sink, writer

    yield maker
    for sink in made:
        sink.close(monotonic())


@pytest.mark.parametrize("blocks", [False, True], ids=["direct", "thread"])
def test_lines_are_gathered(make: Any, blocks: bool) -> None:
    sink, writer = make(blocks)
    for number in range(100):
        sink.put(b"%d\n" % number)
    assert not writer.writes
    until(lambda: writer.writes)
    assert writer.writes == [[b"%d\n" % number for number in range(100)]]
    until(lambda: sink.limit == 0)
    assert (sink.pending, sink.lines, sink.dropped) == (0, [], 0)
    sink.put(b"again\n")
    until(lambda: writer.lines[-1] == b"again\n")


def recorder(sink: Sink, form: bytes = b"%d\n") -> tuple[Callable[[Any], None], list[Any]]:
    """What queues a subject as a compiled recorder does, and the list of those whose lines were made."""
    rendered: list[Any] = []

    def render(subjects: list[Any]) -> list[bytes]:
        rendered.extend(subjects)
        return [form % subject for subject in subjects if subject]

    def record(subject: Any) -> None:
        if sink.render is not render or len(sink.subjects) >= logsink.MOST_SUBJECTS:
            sink.turn_to(render)
        sink.subjects.append(subject)

    return record, rendered


def queue(sink: Sink, *subjects: Any) -> list[Any]:
    """Queues subjects; returns the list of those whose lines were made."""
    record, rendered = recorder(sink)
    for subject in subjects:
        record(subject)
    return rendered


def test_lines_are_made_together_and_soon(make: Any) -> None:
    sink, writer = make()
    for count in (1, 2, 3):
        gevent.get_hub().loop.update_now()
        begun = monotonic()
        rendered = queue(sink, 1, 0, 2)
        assert rendered == []
        gevent.sleep(0)
        if monotonic() - begun < logsink.HOLD / 2:  # else the machine is busy
            assert (rendered, len(sink.subjects)) == ([], 3), "they wait for others"
        until(lambda: not sink.subjects)
        assert rendered == [1, 0, 2]
        until(lambda count=count: len(writer.lines) == 2 * count)
    assert writer.lines == [b"1\n", b"2\n"] * 3


def test_subjects_that_come_all_the_time_do_not_put_it_off(make: Any) -> None:
    sink, _ = make()
    record, rendered = recorder(sink)

    def goes_on() -> bool:
        if len(sink.subjects) < logsink.MOST_SUBJECTS - 1:
            record(1)
        return bool(rendered)

    until(goes_on)


def test_many_subjects_do_not_wait(make: Any) -> None:
    sink, _ = make()
    rendered = queue(sink, *range(1, 2 * logsink.MOST_SUBJECTS + 11))
    assert len(rendered) == 2 * logsink.MOST_SUBJECTS
    assert len(sink.subjects) == 10
    assert sink.lines == [b"%d\n" % number for number in rendered]


def test_recorders_of_one_target_keep_the_order(make: Any) -> None:
    """Other formats, other webapps, and the two stages of a reload."""
    sink, writer = make()
    records = [recorder(sink, form)[0] for form in (b"a%d\n", b"b%d\n", b"c%d\n")]
    turns = [0, 0, 1, 2, 2, 1, 0] * 40
    for number, turn in enumerate(turns, 1):
        records[turn](number)
    sink.flush()
    assert writer.lines == [b"%c%d\n" % (b"abc"[turn], number) for number, turn in enumerate(turns, 1)]


def test_lines_by_hand_come_before_those_of_subjects(make: Any) -> None:
    sink, writer = make()
    queue(sink, 1)
    sink.put(b"by hand\n")
    queue(sink, 2)
    sink.flush()
    assert writer.lines == [b"by hand\n", b"1\n", b"2\n"]


def test_a_flush_makes_what_is_not_made_yet(make: Any) -> None:
    sink, writer = make()
    queue(sink, 1, 2)
    assert sink.flush()
    assert writer.writes == [[b"1\n", b"2\n"]]


def test_subjects_beyond_the_bound_are_dropped_and_counted(make: Any) -> None:
    sink, writer = make(most=6)
    queue(sink, 1, 2, 3, 4, 5)
    sink.settle()
    assert (sink.lines, sink.dropped) == ([b"1\n", b"2\n", b"3\n"], 2)
    sink.close(monotonic() + 1)
    assert queue(sink, 6, 7) == []
    assert (sink.dropped, writer.lines) == (4, [b"1\n", b"2\n", b"3\n"])


def test_an_idle_sink_has_no_greenlet(make: Any) -> None:
    sink, writer = make()
    sink.put(b"x\n")
    until(lambda: writer.writes)
    until(lambda: sink._task.ready())


def test_much_is_written_at_once(make: Any) -> None:
    sink, writer = make(interval=60)
    for _ in range(300):
        sink.put(b"x" * 1023 + b"\n")
    until(lambda: len(writer.lines) == 300)


def test_many_bursts(make: Any) -> None:
    sink, writer = make(interval=0.001)
    sent = []
    for number in range(500):
        sent.append(b"%d\n" % number)
        sink.put(sent[-1])
        if number % 7 == 0:
            gevent.sleep(0)
        if number % 100 == 0:
            gevent.sleep(0.003)
    until(lambda: len(writer.lines) == 500)
    assert writer.lines == sent


def test_beyond_the_bound_lines_are_dropped(make: Any) -> None:
    sink, writer = make(most=1000, interval=60)
    for _ in range(150):
        sink.put(b"123456789\n")
    assert sink.pending == 1000
    assert sink.dropped == 50
    sink.flush()
    assert len(writer.lines) == 100
    sink.put(b"123456789\n")
    assert (sink.pending, sink.dropped) == (10, 50)


def test_a_line_beyond_the_bound(make: Any) -> None:
    sink, _ = make(most=100)
    sink.put(b"x" * 101)
    assert (sink.pending, sink.dropped) == (0, 1)


def test_an_outage_loses_nothing_that_fits(make: Any, complaints: list[str], monkeypatch: Any) -> None:
    monkeypatch.setattr(logsink, "RETRY", 0.01)
    sink, writer = make()
    writer.error, writer.takes = OSError(errno.ENOSPC, "No space left on device"), 2
    for number in range(10):
        sink.put(b"%d\n" % number)
    until(lambda: len(writer.writes) >= 3)
    writer.takes = 0
    sink.put(b"10\n")
    until(lambda: len(writer.writes) >= 6)
    assert len(complaints) == 1
    assert complaints[0].startswith("logger: fake: No space left on device (0 lines dropped, ")
    writer.error = None
    until(lambda: not sink.lines)
    assert writer.lines == [b"%d\n" % number for number in range(11)]
    assert complaints[1:] == ["logger: fake works again"]
    assert sink.dropped == 0


def test_a_long_outage_drops_and_counts(make: Any, complaints: list[str], monkeypatch: Any) -> None:
    monkeypatch.setattr(logsink, "RETRY", 0.01)
    sink, writer = make(most=100)
    writer.error = OSError(errno.ENOSPC, "No space left on device")
    for _ in range(50):
        sink.put(b"123456789\n")
        gevent.sleep(0)
    until(lambda: len(writer.writes) > 3)
    for _ in range(50):
        sink.put(b"123456789\n")
    assert (sink.pending, sink.dropped) == (100, 90)
    writer.error = None
    until(lambda: not sink.lines)
    assert len(writer.lines) == 10
    assert sum(int(re.search(r"\((\d+) lines", said)[1]) for said in complaints if "(" in said) == 90
    sink.put(b"good\n")
    until(lambda: writer.lines[-1] == b"good\n")


def test_reopen_comes_after_what_waits(make: Any) -> None:
    sink, writer = make(interval=60)
    sink.put(b"1\n")
    sink.reopen()
    until(lambda: len(writer.events) == 2)
    assert writer.events == ["open", "reopen after 1"]
    sink.reopen()
    until(lambda: len(writer.events) == 3)


def test_a_reopen_that_fails(make: Any, complaints: list[str]) -> None:
    sink, writer = make()
    writer.error = OSError(errno.EACCES, "Permission denied")
    sink.reopen()
    until(lambda: complaints)
    assert complaints == ["logger: fake cannot be reopened: Permission denied"]


def test_close_writes_what_waits(make: Any) -> None:
    sink, writer = make(interval=60)
    sink.put(b"1\n")
    sink.close(monotonic() + 5)
    assert writer.lines == [b"1\n"]
    assert writer.events == ["open", "close"]
    sink.put(b"late\n")
    assert (sink.lines, sink.dropped) == ([], 1)
    sink.close(monotonic())


def test_close_does_not_wait_beyond_its_deadline(make: Any, complaints: list[str]) -> None:
    sink, writer = make(blocks=True, interval=60)
    wait = RealEvent()
    writer.before = lambda: wait.wait(5)
    sink.put(b"1\n")
    begun = monotonic()
    sink.close(begun + 0.05)
    assert monotonic() - begun < 2
    assert sink.dropped == 1
    assert "1 lines dropped" in complaints[-1]
    wait.set()


def test_subjects_of_a_stuck_target_are_dropped_and_counted(make: Any) -> None:
    sink, writer = make(blocks=True, interval=0)
    wait = RealEvent()
    writer.before = lambda: wait.wait(5)
    sink.put(b"1\n")
    until(lambda: sink._task is not None)
    gevent.sleep(0)
    queue(sink, 2, 3)
    sink.close(monotonic())
    assert (sink.dropped, sink.subjects) == (3, [])
    wait.set()


def test_a_stuck_reader_stops_nobody_else(make: Any) -> None:
    sink, writer = make(blocks=True)
    wait = RealEvent()
    writer.before = lambda: wait.wait(5)
    sink.put(b"1\n")
    until(lambda: sink._task is not None)
    begun = monotonic()
    for _ in range(20):
        gevent.sleep(0.005)
        sink.put(b"2\n")
    assert monotonic() - begun < 2
    wait.set()
    until(lambda: len(writer.lines) == 21)


def test_threads_may_put_and_reopen(make: Any) -> None:
    sink, writer = make(interval=0.001)

    def work(name: int) -> None:
        for number in range(500):
            sink.put(b"%d %d\n" % (name, number))
            if number % 50 == 0:
                sink.reopen()

    pool = ThreadPool(4)
    gevent.joinall([pool.spawn(work, name) for name in range(4)], timeout=20)
    sink.flush()
    assert sorted(writer.lines) == sorted(
        b"%d %d\n" % (name, number) for name in range(4) for number in range(500)
    )
    assert len(writer.events) > 1


def test_sinks_are_shared_by_key(complaints: list[str]) -> None:
    writers: list[Writer] = []

    def make_one() -> Writer:
        writers.append(Writer())
        return writers[-1]

    one = acquire("test-shared", make_one)
    two = acquire("test-shared", make_one)
    assert one is two
    two.reopen()
    until(lambda: "reopen after 0" in writers[0].events)
    one.put(b"1\n")
    release("test-shared", one, monotonic() + 1)
    assert not one.closed
    assert writers[0].lines == [b"1\n"]
    release("test-shared", two, monotonic() + 1)
    assert one.closed
    three = acquire("test-shared", make_one)
    assert three is not one
    release("test-shared", three, monotonic() + 1)
    assert len(writers) == 2


def test_complaints_go_to_stderr_and_never_wait() -> None:
    saved = os.dup(2)
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    try:
        os.dup2(writer, 2)
        logsink.complain("trouble")
        assert os.read(reader, 100) == b"trouble\n"
        try:
            while True:
                os.write(writer, bytes(4096))
        except BlockingIOError:
            pass
        logsink.complain("nobody reads")
    finally:
        os.dup2(saved, 2)
        for fd in (saved, reader, writer):
            os.close(fd)


def test_the_repr_says_the_state(make: Any) -> None:
    sink, _ = make()
    assert repr(sink) == "<Sink fake good pending=0 dropped=0>"
