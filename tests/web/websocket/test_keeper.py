"""The keeper: when stages go, and that it holds nobody."""

from __future__ import annotations

from time import monotonic
from typing import Any

from hemi.web.websocket.keeper import FAREWELL, Keeper, drain, keeper_of
from tests.web.websocket.wskit import open_ws, serving
from tests.webkit import Log, until


class FakeStage:
    log = Log()


class FakeWS:
    """Notes what is done with it."""

    def __init__(self) -> None:
        self.closed = False
        self.due = 0.0
        self.looked = 0
        self.told: list[int] = []

    def look(self, now: float) -> None:
        self.looked += 1
        self.due = now + 5

    def go_away(self, code: int, reason: str) -> None:
        self.closed = True
        self.told.append(code)


def test_looks_at_those_that_are_due() -> None:
    keeper = Keeper(FakeStage())  # type: ignore[arg-type]
    ws: Any = FakeWS()
    keeper.members.add(ws)
    for now in (1.0, 2.0, 5.9, 6.0, 6.1):
        keeper.tick(now)
    assert ws.looked == 2


def test_a_reloaded_stage_tells_them_shortly_before_the_end() -> None:
    keeper = Keeper(FakeStage())  # type: ignore[arg-type]
    ws: Any = FakeWS()
    keeper.members.add(ws)
    now = monotonic()
    keeper.drain(now + 20, at_once=False)
    keeper.tick(now + 20 - FAREWELL - 1)
    assert not ws.told
    keeper.tick(now + 20 - FAREWELL + 0.1)
    keeper.tick(now + 20)
    assert ws.told == [1001]


def test_at_once_when_nothing_follows() -> None:
    keeper = Keeper(FakeStage())  # type: ignore[arg-type]
    ws: Any = FakeWS()
    keeper.members.add(ws)
    keeper.drain(monotonic() + 20, at_once=False)
    keeper.drain(monotonic() + 20, at_once=True)
    assert ws.told == [1001]


def test_one_a_stage_and_only_when_needed() -> None:
    stage: Any = FakeStage()
    drain(stage, 0, at_once=True)
    assert keeper_of(stage) is keeper_of(stage)


def test_it_has_a_timer_while_it_has_members() -> None:
    with serving() as site:
        keeper = keeper_of(site.stage)
        assert keeper._timer is None
        with open_ws(site) as one, open_ws(site) as other:
            assert len(keeper.members) == 2
            assert keeper._timer is not None
            for ws in (one, other):
                ws.close()
                ws.end()
            until(lambda: not keeper.members)
            assert keeper._timer is None


def test_who_comes_late_is_told_at_once() -> None:
    with serving() as site:
        keeper_of(site.stage).drain(monotonic() + 5, at_once=True)
        with open_ws(site) as ws:
            assert ws.end() == (1001, "the server is going away")
