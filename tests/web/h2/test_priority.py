"""RFC 9218: the field, and whose turn it is."""

from __future__ import annotations

from typing import Any

import pytest

from hemi.web.h2.priority import Schedule, parse_priority


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (b"", (3, False)),
        (b"u=0", (0, False)),
        (b"u=7, i", (7, True)),
        (b"i", (3, True)),
        (b"i=?1", (3, True)),
        (b"i=?0", (3, False)),
        (b"i, i=?0", (3, False)),
        (b"u=5,u=2", (2, False)),
        (b"u=8", (3, False)),
        (b"u=-1", (3, False)),
        (b"u=a, i", (3, True)),
        (b"u=1;x=2, i;y", (1, True)),
        (b"ui=1", (3, False)),
        (b"x=1,  u=4 ,i", (4, True)),
        (b"u=77", (3, False)),
        (b"i=1", (3, False)),
        (b"\xff\x00", (3, False)),
    ],
)
def test_the_field(value: bytes, expected: tuple[int, bool]) -> None:
    assert parse_priority(value) == expected


class Stream:
    """What a schedule knows of a stream."""

    def __init__(self, name: str, urgency: int = 3, incremental: bool = False) -> None:
        self.name, self.urgency, self.incremental, self.queued = name, urgency, incremental, False


def order(schedule: Schedule, turns: int) -> str:
    names = ""
    for _ in range(turns):
        stream: Any = schedule.first()
        if stream is None:
            break
        names += stream.name
        schedule.rotate(stream)
    return names


def filled(*streams: Stream) -> Any:
    schedule: Any = Schedule()
    for stream in streams:
        schedule.add(stream)
    return schedule


def test_the_most_urgent_go_first_and_the_others_wait() -> None:
    a, b, c = Stream("a", 5), Stream("b", 1), Stream("c", 1)
    schedule = filled(a, b, c, b)
    assert schedule.size == 3
    assert order(schedule, 3) == "bbb"
    schedule.remove(b)
    assert order(schedule, 2) == "cc"
    schedule.remove(c)
    schedule.remove(c)
    assert order(schedule, 1) == "a"
    schedule.remove(a)
    assert schedule.first() is None and schedule.size == 0


def test_those_that_share_take_turns() -> None:
    assert order(filled(Stream("a", 3, True), Stream("b", 3, True), Stream("c", 3, True)), 6) == "abcabc"
    assert order(filled(Stream("a", 3, True), Stream("b", 3)), 4) == "abbb"


def test_a_priority_can_change_while_a_stream_waits() -> None:
    a, b = Stream("a"), Stream("b")
    schedule = filled(a, b)
    schedule.change(b, 0, False)
    assert order(schedule, 1) == "b"
    schedule.remove(b)
    schedule.change(b, 7, True)
    assert not b.queued and (b.urgency, b.incremental) == (7, True)
    assert order(schedule, 2) == "aa"
    assert repr(schedule) == "<Schedule [0, 0, 0, 1, 0, 0, 0, 0]>"
