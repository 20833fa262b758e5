"""top: differences between looks, and how they are drawn."""

from __future__ import annotations

from typing import Any

from hemi import meter as m
from hemi.procmgr.live import difference, draw
from hemi.procmgr.tables import PLAIN


def look(time: float, *workers: tuple[int, int, int]) -> dict[str, Any]:
    """Workers of these pids, which have answered so many requests with 200 and with 500."""
    told = []
    for pid, good, bad in workers:
        meter = m.new_meter()
        meter[m.BEGUN] = good + bad + 1
        meter[2], meter[5] = good, bad
        meter[m.BYTES] = good * 100
        meter[m.LATENCY + 10] = good + bad
        told.append(
            {
                "worker": len(told) + 1,
                "pid": pid,
                "meters": {"webapps shop": meter[: m.LATENCY + 11], "servers main": []},
                "conns": 3,
                "cpu": 50.0,
                "rss": 1 << 20,
                "blocked": 0.0,
            }
        )
    return {"time": time, "state": "serving", "workers": told}


def test_rates_are_differences() -> None:
    told = difference(look(10.0, (1, 100, 0), (2, 0, 0)), look(12.0, (1, 150, 10), (2, 20, 0)))
    assert told["total"]["requests_per_second"] == 40.0
    assert told["total"]["bytes_per_second"] == 3500.0
    assert told["total"]["in_flight"] == 2
    assert told["total"]["status"]["5xx"] == 10
    assert 0.0005 < told["total"]["latency"]["p50"] < 0.0011
    assert [each["requests_per_second"] for each in told["workers"]] == [30.0, 10.0]
    shop = next(each for each in told["components"] if each["name"] == "shop")
    assert shop["requests_per_second"] == 40.0


def test_a_new_worker_counts_from_nothing() -> None:
    told = difference(look(0.0, (1, 100, 0)), look(1.0, (9, 5, 0)))
    assert told["total"]["requests_per_second"] == 5.0


def test_a_worker_without_an_answer_is_shown() -> None:
    later = look(1.0, (1, 5, 0))
    later["workers"][0] = {"worker": 1, "pid": 1, "error": "no answer within 5 s", "details": []}
    text = draw(difference(look(0.0, (1, 0, 0)), later), PLAIN)
    assert "no answer within 5 s" in text


def test_it_is_drawn_into_the_room_there_is() -> None:
    told = difference(look(0.0, (1, 0, 0)), look(1.0, (1, 1000, 0)))
    text = draw(told, PLAIN, 60, 5)
    assert len(text.split("\n")) == 4
    assert all(len(line) <= 60 for line in text.split("\n")[2:])
    whole = draw(told, PLAIN)
    assert "shop" in whole
    assert "no webapp" not in whole
    assert "1000 requests/s" in whole
