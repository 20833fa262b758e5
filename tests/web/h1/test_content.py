"""The content of a request while it arrives, without a socket."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest

from hemi.sockets import DeadlinePassed
from hemi.web.errors import ClientGone, HTTPError
from hemi.web.h1.content import CONTINUE, Content1


class FakeServer:
    read_timeout, min_rate, rate_grace = 60.0, 256, 20.0
    max_fields, max_head_size = 100, 32768


class FakeConn:
    """Gives the pieces it has, as reads of a socket."""

    no_deadline = math.inf

    def __init__(self, *pieces: bytes | Exception) -> None:
        self.pieces = list(pieces)
        self.sent: list[bytes] = []
        self.server = FakeServer()
        self.channel: Any = self
        self.deadline = math.inf
        self.deadlines: list[float] = []
        self.broken = False
        self.content: Content1
        self.pending_fields: list[Any] = []
        self.wrapping = 0

    def send(self, data: bytes) -> None:
        self.sent.append(data)

    def recv(self, size: int) -> bytes:
        self.deadlines.append(self.deadline)
        piece = self.pieces.pop(0)
        if isinstance(piece, Exception):
            raise piece
        return piece

    def feed(self, data: bytes) -> None:
        """Takes all but what is called wrapping for content."""
        data = data[self.wrapping :]
        if data:
            self.content.chunks.append(data)
            self.content.arrived += len(data)
            self.content.expect = False
        if self.content.arrived == self.content.size:
            self.content.complete = True

    def has_excess(self, fields: list[Any]) -> bool:
        return len(fields) > 100


def made(size: int, *pieces: bytes | Exception, expect: bool = False) -> tuple[FakeConn, Content1]:
    conn = FakeConn(*pieces)
    content = conn.content = Content1(conn, size, expect)  # type: ignore[arg-type]
    return conn, content


def test_reading() -> None:
    conn, content = made(6, b"abc", b"def")
    assert "arriving" in repr(content)
    assert content.read(2) == b"ab"
    assert content.read(2) == b"c"
    assert content.read(9) == b"def"
    assert content.read(9) == b"" == content.read(9)
    assert "complete" in repr(content)
    assert not conn.broken


def test_a_100_is_sent_once_and_late() -> None:
    conn, content = made(6, b"abc", b"def", expect=True)
    assert "expect" in repr(content) and conn.sent == []
    content.read(9)
    content.read(9)
    assert conn.sent == [CONTINUE]


@pytest.mark.parametrize(("error", "status"), [(DeadlinePassed("late"), 408), (b"", 400)])
def test_failures_stay(error: Any, status: int) -> None:
    """Whoever asks again gets the same answer, and nothing is read any more. The answer can still be sent."""
    conn, content = made(6, b"abc", error)
    assert content.read(9) == b"abc"
    for _ in range(2):
        with pytest.raises(HTTPError) as raised:
            content.read(9)
        assert raised.value.status == status and raised.value.close
    assert not conn.broken and not content.droppable(1000) and not content.drop(1000)


def test_a_client_that_left() -> None:
    conn, content = made(6, ConnectionResetError(104, "reset"))
    with pytest.raises(ClientGone):
        content.read(9)
    assert conn.broken
    conn, content = made(6)
    content.conn = None
    with pytest.raises(ClientGone):
        content.read(9)


def test_deadlines_give_credit_for_what_has_come() -> None:
    conn, content = made(1_000_000, b"x" * 10, b"x" * 100_000, b"x")
    conn.server.read_timeout, conn.server.rate_grace = 1e9, 5.0  # type: ignore[misc]
    for _ in range(3):
        content.read(1_000_000)
    first, second, third = (deadline - content.since for deadline in conn.deadlines)
    assert first == pytest.approx(5)
    assert second == pytest.approx(5 + 10 / 256)
    assert third == pytest.approx(5 + 100_010 / 256)
    assert conn.deadline == math.inf


def test_wrapping_has_a_limit() -> None:
    conn, content = made(-1, *[b"x" * 1000] * 100)
    conn.wrapping = 990
    with pytest.raises(HTTPError, match="wrapping"):
        while content.read(1000):
            pass
    assert 60_000 < content.received < 75_000


def test_trailers_have_a_limit() -> None:
    conn, content = made(-1, b"x")
    conn.pending_fields = [None] * 101
    with pytest.raises(HTTPError) as raised:
        content.read(9)
    assert raised.value.status == 431


@pytest.mark.parametrize(
    ("change", "droppable"),
    [
        (lambda content: None, True),
        (lambda content: setattr(content, "size", 2000), False),
        (lambda content: setattr(content, "size", -1), False),
        (lambda content: setattr(content, "expect", True), False),
        (lambda content: (setattr(content, "size", -1), setattr(content, "complete", True)), True),
        (lambda content: (setattr(content, "size", 1500), setattr(content, "arrived", 500)), True),
    ],
)
def test_worth_dropping(change: Callable[[Content1], None], droppable: bool) -> None:
    _, content = made(1000)
    change(content)
    assert content.droppable(1000) == droppable


def test_dropping() -> None:
    _, content = made(6, b"abc", b"def")
    assert content.drop(100)
    assert content.read(9) == b""
    _, content = made(1000, *[b"x" * 10] * 100)
    assert not content.drop(50)
    _, content = made(6, expect=True)
    assert not content.drop(100)
