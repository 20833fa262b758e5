"""Listening sockets that stay when the configuration changes: their queues, and mode and owner of their files."""

from __future__ import annotations

import json
import os
import re
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.processes.leaderkit import CONFIG, Leader
from tests.running import require_program, run, until
from tests.waiting import gone

CTL = Path(__file__).resolve().parents[2] / "bin/goroxctl"

Start = Callable[..., Leader]


@pytest.fixture
def leader(tmp_path: Path) -> Iterator[Leader]:
    """A leader of two workers at a port and at a path that only its user can use."""
    config = CONFIG.replace('"127.0.0.1:0"', f'["127.0.0.1:0", "unix:{tmp_path}/s"], uds_mode: 0600')
    running = Leader(tmp_path, config, "--workers", "2", "--cmdui", str(tmp_path / "ui"), "--pid-file", "pid")
    yield running
    running.kill()


def ctl(leader: Leader, *words: str) -> tuple[int, dict[str, object]]:
    done = run([str(CTL), *words, "--json", "--top-dir", str(leader.folder)])
    return done.returncode, json.loads(done.stdout)


def rewrite(leader: Leader, old: str, new: str) -> None:
    text = leader.config.read_text()
    assert old in text
    leader.config.write_text(text.replace(old, new))


def mode(leader: Leader) -> int:
    return (leader.folder / "s").stat().st_mode & 0o777


def backlog(leader: Leader) -> int:
    """The queue's length as the kernel tells it."""
    ss = require_program("ss", "iproute2")
    port = leader.address.rpartition(":")[2]
    line = run([ss, "-Hltn", "sport", "=", f":{port}"]).stdout
    found = re.match(r"LISTEN\s+\d+\s+(\d+)\s", line)
    assert found, line
    return int(found[1])


def test_a_reload_changes_them_or_nothing(leader: Leader) -> None:
    rewrite(leader, "uds_mode: 0600", "uds_mode: 0660, backlog: 77")
    assert ctl(leader, "reload")[0] == 0
    assert (mode(leader), backlog(leader)) == (0o660, 77)
    rewrite(leader, "uds_mode: 0660, backlog: 77", "uds_mode: 0666, backlog: 78, uds_user: no-such-user")
    status, answer = ctl(leader, "reload")
    assert status == 1
    assert "cannot change" in str(answer["error"]) and "there is no user no-such-user" in str(answer["error"])
    rewrite(leader, "uds_user: no-such-user", "adress: 1")
    assert ctl(leader, "reload")[0] == 1
    assert (mode(leader), backlog(leader)) == (0o660, 77)
    rewrite(leader, ", adress: 1", "")
    assert ctl(leader, "reload")[0] == 0
    assert (mode(leader), backlog(leader)) == (0o666, 78)
    assert leader.fetch() == "first"
    assert leader.end() == 0
    assert not (leader.folder / "s").exists()


def test_rework_and_upgrade_do_as_well(leader: Leader) -> None:
    rewrite(leader, "uds_mode: 0600", "uds_mode: 0660, backlog: 77, uds_user: no-such-user")
    for action in ("rework", "upgrade"):
        assert ctl(leader, action)[0] == 1
        assert mode(leader) == 0o600
    rewrite(leader, ", uds_user: no-such-user", "")
    assert ctl(leader, "rework")[0] == 0
    assert (mode(leader), backlog(leader)) == (0o660, 77)
    rewrite(leader, "0660, backlog: 77", "0606, backlog: 78")
    assert ctl(leader, "upgrade")[0] == 0
    assert leader.wait(30) == 0
    assert (mode(leader), backlog(leader)) == (0o606, 78)
    heir = int((leader.folder / "data/var/pid").read_text())
    os.kill(heir, signal.SIGTERM)
    assert until(lambda: gone(heir), 20)
    assert not (leader.folder / "s").exists()
