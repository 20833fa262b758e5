"""Commands that ask workers, against a leader without any; with real ones: tests/processes/test_goroxctl.py."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import hemi.procmgr.controls  # noqa: F401
from hemi.procmgr.client import Refused
from hemi.procmgr.vitals import Vitals
from tests.procmgr.uikit import Leader, running


@pytest.fixture
def leader(tmp_path: Path) -> Iterator[Leader]:
    with running(tmp_path) as leader:
        crew = SimpleNamespace(children=[], wanted=2, restarts=1, ready=list)
        extras: dict[str, Any] = {
            "crew": crew,
            "state": "starting",
            "changing": "",
            "started": 0.0,
            "reloads": 0,
            "program": SimpleNamespace(name="gorox", config_path="conf/gorox.yaml"),
            "listening": SimpleNamespace(held={}),
            "vitals": Vitals(),
            "ask_all": None,
        }
        leader.__dict__.update(extras)
        yield leader


def test_reports_work_without_workers(leader: Leader) -> None:
    with leader.connect() as client:
        status = client.call("status")
        assert (status["ready"], status["wanted"], status["cmdui"]) == (0, 2, leader.cmdui.address)
        assert client.call("health") == {"healthy": False, "state": "starting", "ready": 0, "wanted": 2}
        assert client.call("advise")["advice"]


@pytest.mark.parametrize("action", ["top", "backends", "explain", "cpu", "heap", "thread", "greenlet", "gc"])
def test_who_is_not_there_cannot_be_asked(leader: Leader, action: str) -> None:
    with leader.connect() as client:
        with pytest.raises(Refused, match="no worker is ready"):
            client.call(action)
        with pytest.raises(Refused, match="there is no ready worker 3; ready: none"):
            client.call(action, {"worker": 3})


@pytest.mark.parametrize(
    ("action", "args", "message"),
    [
        ("cpu", {"seconds": "long"}, "seconds must be"),
        ("cpu", {"seconds": 1e9}, "seconds must be"),
        ("block", {"seconds": [1]}, "seconds must be"),
        ("block", {"limit": "x"}, "limit must be 0.001 to"),
        ("block", {"limit": float("nan")}, "limit must be 0.001 to"),
        ("explain", {"url": 5}, "url must be text, not 5"),
        ("explain", {"fields": [["a"]]}, "fields must be a list of pairs"),
        ("log", {"level": "loud"}, "the level must be one of"),
        ("log", {"level": ["debug"]}, "the level must be one of"),
        ("node", {"backend": "x"}, "a node must be named"),
        ("recmd", {}, "where to listen must be named"),
        ("recmd", {"address": "0.0.0.0:1"}, "loopback"),
        ("workers", {"count": True}, "must be a number"),
    ],
)
def test_bad_arguments_are_refused(leader: Leader, action: str, args: dict[str, Any], message: str) -> None:
    with leader.connect() as client, pytest.raises(Refused, match=message):
        client.call(action, args)
    assert not leader.complaints
    assert not [line for line in leader.log.lines if "failed" in line]
