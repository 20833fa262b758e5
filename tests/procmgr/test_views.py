"""How answers look to people."""

from __future__ import annotations

from typing import Any

import pytest

from hemi.procmgr.tables import Painter
from hemi.procmgr.views import as_json, one_line, show

WORKER = {"worker": 1, "pid": 7}
GONE = {"worker": 2, "pid": 8, "error": "the worker has \x1b[2Jgone", "details": ["at once"]}

ANSWERS: dict[str, tuple[dict[str, Any], list[str]]] = {
    "health": (
        {"healthy": False, "state": "stopping", "ready": 0, "wanted": 2},
        ["not healthy: stopping, 0 of 2 worker(s) ready"],
    ),
    "pids": (
        {
            "leader": 5,
            "workers": [
                {**WORKER, "state": "failed", "reason": "crashed", "seconds": 3, "starts": 6, "blocked": 2.0}
            ],
        },
        ["leader: 5", "failed", "crashed; its hub is blocked for 2.0 s"],
    ),
    "stages": (
        {"workers": [{**WORKER, "stages": [{"id": 3, "state": "serving", "conns": 5, "servers": []}]}, GONE]},
        ["serving", "worker 2: the worker has �[2Jgone", "  at once"],
    ),
    "worker": (
        {
            "workers": [
                {
                    **WORKER,
                    "python": "3.11.0",
                    "gevent": "26",
                    "uptime": 61,
                    "greenlets": 4,
                    "figures": {"conns": 1},
                },
                GONE,
            ]
        },
        ["worker 1 (process 7)", "1m01s", "worker 2 (process 8)"],
    ),
    "reload": (
        {"seconds": 0.25, "workers": [{**WORKER, "stage": 4}, {**GONE, "replaced": True}]},
        ["reloaded", "replaced", "reload: done in 250 ms"],
    ),
    "advise": (
        {
            "advice": [
                {"item": "nofile", "value": "1", "change": "more", "why": "few"},
                {"item": "clock", "value": "tsc", "change": "", "why": ""},
            ]
        },
        ["nofile is 1", "do:  more", "why: few", "fine: clock (tsc)"],
    ),
    "block": (
        {"workers": [{**WORKER, "limit": 0.05, "calls": []}, {**GONE}]},
        ["no call took more than 50.0 ms"],
    ),
    "backends": (
        {
            "workers": [
                {
                    **WORKER,
                    "backends": [
                        {
                            "name": "api",
                            "nodes": [
                                {
                                    "address": "127.0.0.1:1",
                                    "state": "down",
                                    "why": "",
                                    "weight": 1,
                                    "in_flight": 0,
                                    "conns": 2,
                                    "idle_conns": 2,
                                    "latency": 0.002,
                                    "leases": 9,
                                    "failures": 3,
                                    "last_failure": "refused",
                                }
                            ],
                        }
                    ],
                }
            ]
        },
        ["api", "127.0.0.1:1", "down", "2.0 ms", "refused"],
    ),
    "quit": ({"stopped": True}, ["quit: all requests are answered"]),
    "stop": ({"stopped": True}, ["stop: the instance has ended"]),
    "upgrade": ({"leader": 9}, ["process 9 leads now"]),
    "unknown": ({"a": 1}, ['"a": 1']),
}


@pytest.mark.parametrize("action", ANSWERS)
def test_views(action: str) -> None:
    answer, expected = ANSWERS[action]
    text = show(action, answer)
    for piece in expected:
        assert piece in text
    assert "\x1b" not in text
    coloured = show(action, answer, Painter(True))
    assert "\x1b[2J" not in coloured


def test_json_and_lines() -> None:
    assert as_json({"ü": [1]}) == '{\n  "ü": [\n    1\n  ]\n}'
    assert one_line("a\r\nb") == "a��b"
