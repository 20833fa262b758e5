"""cmdui: what is answered, and where it listens. Attacks: tests/security/test_control.py."""

from __future__ import annotations

import os
import socket
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gevent
import pytest

from hemi.errors import EnvError
from hemi.procmgr.client import Client, Refused
from hemi.procmgr.loop import CommandError
from hemi.procmgr.messages import encode
from tests.procmgr.uikit import Leader, dial, greet, running
from tests.running import until


@pytest.fixture
def leader(tmp_path: Path) -> Iterator[Leader]:
    with running(tmp_path) as leader:
        yield leader


# Operators


def test_calls_are_answered(leader: Leader) -> None:
    with leader.connect() as client:
        assert client.pid == os.getpid()
        assert client.call("echo", {"a": [1, "ü"]}) == {"a": [1, "ü"]}
        assert client.call("echo") == {}
        assert len(client.call("large")["text"]) == 4 << 20


def test_progress_comes_before_the_answer_and_others_are_served_meanwhile(leader: Leader) -> None:
    told: list[dict[str, Any]] = []
    with leader.connect() as client, leader.connect() as other:
        call = gevent.spawn(client.call, "slow", None, told.append)
        assert until(lambda: told)
        assert told == [{"text": "one", "number": 1}]
        other.call("release")
        assert call.get(timeout=5) == {"released": True}
        assert [data["number"] for data in told] == [1, 2]


def test_what_cannot_be_done_is_one_line_and_details(leader: Leader) -> None:
    with leader.connect() as client:
        with pytest.raises(Refused, match=r"^it cannot be$") as caught:
            client.call("fail")
        assert caught.value.details == ["because", "of this"]
        with pytest.raises(Refused, match=r'^there is no action "slwo", did you mean slow\?$'):
            client.call("slwo")
        with pytest.raises(Refused, match="break failed, a bug"):
            client.call("break")
        assert client.call("echo") == {}


def test_tells_are_acknowledged(leader: Leader) -> None:
    with leader.connect() as client:
        client.tell("slow")
        client.tell("release")
        client.tell("fail")
        assert until(lambda: "cmdui: fail: it cannot be" in leader.log.lines)
        with pytest.raises(Refused):
            client.tell("nothing of the kind")


def test_an_operator_that_leaves_early_stops_nothing(leader: Leader) -> None:
    with leader.connect() as client:
        client._send({"call": "slow", "args": {}})
    assert until(lambda: not leader.cmdui.operators)
    with leader.connect() as client:
        client.call("release")
        assert client.call("echo") == {}


def test_one_action_at_a_time(leader: Leader) -> None:
    with leader.connect() as client:
        client._send({"call": "slow", "args": {}})
        client._send({"call": "echo", "args": {}})
        assert client._receive() == {"progress": {"text": "one", "number": 1}}
        assert client._receive()["error"] == "one action at a time: wait for its answer"
        leader.released = True


def test_an_operator_that_does_not_read_keeps_nobody(leader: Leader) -> None:
    sock = dial(leader)
    welcome = greet(sock, leader.cmdui.key)
    assert welcome is not None
    assert "welcome" in welcome
    sock.sendall(encode({"call": "large", "args": {}}))
    with leader.connect() as client:
        assert client.call("echo") == {}
    sock.close()


# Where it listens


def test_the_key_is_for_its_owner_alone(leader: Leader) -> None:
    status = os.stat(leader.cmdui.key_path)
    assert stat.S_IMODE(status.st_mode) == 0o600
    assert Path(leader.cmdui.target_path).read_text().strip() == leader.cmdui.address


def test_it_moves_and_operators_stay(leader: Leader, tmp_path: Path) -> None:
    old = leader.cmdui.address
    with leader.connect() as client:
        assert leader.cmdui.move("./run.sock") == str(tmp_path / "run.sock")
        assert client.call("echo") == {}
        with leader.connect() as other:
            assert other.call("echo") == {}
        assert stat.S_IMODE(os.stat(tmp_path / "run.sock").st_mode) == 0o600
        with pytest.raises(EnvError, match="nobody listens"):
            Client.connect(old, leader.cmdui.key)
        leader.cmdui.move(old)
        assert not (tmp_path / "run.sock").exists()
        assert leader.cmdui.address == old


def test_it_stays_where_it_is_when_it_cannot_move(leader: Leader, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    for wanted in ("./file", "./no/such/folder.sock", "8.8.8.8:1", "127.0.0.1:x"):
        with pytest.raises(CommandError):
            leader.cmdui.move(wanted)
    with leader.connect() as client:
        assert client.call("echo") == {}
    assert (tmp_path / "file").read_text() == "mine"


def test_a_taken_address_is_an_error_only_when_it_was_asked_for(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    with running(tmp_path / "a") as first:
        with pytest.raises(EnvError, match="name another address"), running(tmp_path, first.cmdui.address):
            pass
        with running(tmp_path, "") as other, other.connect() as client:
            assert client.call("echo") == {}


def test_a_dead_socket_file_is_replaced_a_live_one_is_not(tmp_path: Path) -> None:
    path = str(tmp_path / "c.sock")
    dead = socket.socket(socket.AF_UNIX)
    dead.bind(path)
    dead.close()
    with running(tmp_path, path) as leader:
        with leader.connect() as client:
            assert client.call("echo") == {}
        (tmp_path / "b").mkdir()
        with pytest.raises(EnvError, match="somebody listens there"), running(tmp_path / "b", path):
            pass
    assert not os.path.exists(path)


def test_the_next_leader_takes_over_when_the_old_one_lets_go(tmp_path: Path) -> None:
    with running(tmp_path) as old:
        new = Leader(tmp_path, old.cmdui.address)
        new.cmdui.take_over()
        assert not new.cmdui.address
        with old.connect() as client:
            old.cmdui.release()
            gevent.sleep(0)
            new.cmdui.take_over()
            assert new.cmdui.address == new.options.cmdui
            assert client.call("echo") == {}
        new.cmdui.close()
        new.loop.close()


def test_off_is_off(tmp_path: Path) -> None:
    with running(tmp_path, "off") as leader:
        assert not leader.cmdui.address
    assert not (tmp_path / "var").exists()


def test_a_folder_that_cannot_be_written_costs_control_not_service(tmp_path: Path) -> None:
    (tmp_path / "var").write_text("a file in the way")
    with running(tmp_path, "") as leader:
        assert not leader.cmdui.address
        assert any("goroxctl has no access" in line for line in leader.log.lines)
