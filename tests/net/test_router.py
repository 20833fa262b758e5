"""Routers: cases in order, until one deals."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from hemi.net.router import Router
from tests.net.test_conn import conn_of


def case(asked: list[str], name: str, *answers: bool, holds: bool | None = None) -> Any:
    def dealet(number: int, answer: bool) -> Any:
        def deal(conn: Any) -> bool:
            asked.append(f"{name}{number}")
            return answer

        return SimpleNamespace(deal=deal)

    condition = None if holds is None else lambda conn: holds
    return SimpleNamespace(if_=condition, dealets=[dealet(*pair) for pair in enumerate(answers)])


def test_the_first_that_deals() -> None:
    asked: list[str] = []
    router = Router()
    router.cases = [
        case(asked, "a", True, holds=False),
        case(asked, "b", False, False, holds=True),
        case(asked, "c", False, True, True),
        case(asked, "d", True),
    ]
    conn = conn_of()
    assert router.route(conn)
    assert asked == ["b0", "b1", "c0", "c1"] and conn.case_number == 3


def test_none_deals() -> None:
    asked: list[str] = []
    router = Router()
    router.cases = [case(asked, "a", False)]
    conn = conn_of()
    assert not router.route(conn) and conn.case_number == 0
