"""What may be late, with a clock of the test; over the wire it is in tests/security/test_http2.py."""

from __future__ import annotations

import math
from types import SimpleNamespace
from typing import Any

from hemi.web.h2.errors import CANCEL, ENHANCE_YOUR_CALM, SETTINGS_TIMEOUT
from hemi.web.h2.patience import look


class Conn:
    """A connection as `look` sees it."""

    def __init__(self, **more: Any) -> None:
        self.server = SimpleNamespace(
            head_timeout=30.0,
            keepalive_timeout=75.0,
            write_timeout=60.0,
            stage=SimpleNamespace(log=SimpleNamespace(info=lambda *words: None)),
        )
        self.peer = SimpleNamespace(host="h")
        self.channel = SimpleNamespace(least_taken=100)
        self.writer = SimpleNamespace(window=1000, sent=0)
        self.streams: dict[int, Any] = {}
        self.lost = self.idle = False
        self.verdict: Any = None
        self.ack_by = self.notice_by = math.inf
        self.partial_since = self.stalled_since = self.idle_since = 0.0
        self.stalled_at = 0
        self.last_id = 1
        self.done: list[Any] = []
        self.__dict__.update(more)

    def condemn(self, fault: Any) -> None:
        self.done.append(fault.code)

    def say_goodbye(self) -> None:
        self.done.append("goodbye")
        self.notice_by = math.inf

    def reset(self, stream: Any, code: int) -> None:
        self.done.append((stream.sid, code))


def at(now: float, **more: Any) -> tuple[list[Any], float]:
    conn: Any = Conn(**more)
    by = look(conn, now)
    return conn.done, by


def test_nothing_is_late() -> None:
    assert at(1e9) == ([], math.inf)
    assert at(1e9, lost=True, ack_by=0.0) == ([], math.inf)


def test_idle_connections() -> None:
    assert at(100.0, idle=True, idle_since=50.0) == ([], 125.0)
    assert at(125.0, idle=True, idle_since=50.0) == (["goodbye"], math.inf)
    assert at(80.0, idle=True, idle_since=50.0, last_id=0) == (["goodbye"], math.inf)


def test_settings_and_farewells() -> None:
    assert at(10.0, ack_by=11.0) == ([], 11.0)
    assert at(11.0, ack_by=11.0) == ([SETTINGS_TIMEOUT], math.inf)
    assert at(10.0, notice_by=11.0) == ([], 11.0)
    assert at(11.0, notice_by=11.0) == (["goodbye"], math.inf)


def test_parts_of_frames() -> None:
    assert at(10.0, partial_since=5.0) == ([], 35.0)
    assert at(35.0, partial_since=5.0) == ([ENHANCE_YOUR_CALM], math.inf)


def stream(**more: Any) -> Any:
    values = {
        "sid": 1,
        "content": None,
        "source": b"x",
        "waiter": object(),
        "queued": False,
        "blocked": 60.0,
        "sent": 0,
        "at": 0,
        "end": 1000,
    }
    return SimpleNamespace(**(values | more), server=SimpleNamespace(write_timeout=60.0))


def test_windows_of_streams() -> None:
    assert at(50.0, streams={1: stream()}) == ([], 60.0)
    assert at(60.0, streams={1: stream()}) == ([(1, CANCEL)], math.inf)
    assert at(60.0, streams={1: stream(at=99)}) == ([(1, CANCEL)], math.inf)
    assert at(60.0, streams={1: stream(at=100)}) == ([], 120.0)
    assert at(60.0, streams={1: stream(end=50, at=50)}) == ([], 120.0)
    assert at(60.0, streams={1: stream(source=None)}) == ([], math.inf)


def test_streams_that_wait_for_others_have_time() -> None:
    assert at(1000.0, streams={1: stream(queued=True)}) == ([], 1001.0)


def test_the_window_of_the_connection() -> None:
    conn: Any = Conn(streams={1: stream(queued=True)})
    conn.writer.window = 0
    assert look(conn, 100.0) == 101.0 and conn.stalled_since == 100.0
    look(conn, 159.0)
    assert not conn.done
    conn.writer.sent = 100
    look(conn, 160.0)
    assert not conn.done and conn.stalled_since == 160.0
    look(conn, 220.0)
    assert conn.done == [ENHANCE_YOUR_CALM]
    conn.writer.window = 1
    look(conn, 221.0)
    assert not conn.stalled_since


def test_readers() -> None:
    woken: list[int] = []
    content = SimpleNamespace(waiter=object(), deadline=10.0, late=False, wake=lambda: woken.append(1))
    assert at(9.0, streams={1: stream(source=None, content=content)}) == ([], 10.0)
    assert at(10.0, streams={1: stream(source=None, content=content)}) == ([], math.inf)
    assert content.late and woken
