"""cmdui: who gets in, what is answered, and that nobody without the key can do any harm."""

from __future__ import annotations

import os
import socket
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gevent
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hemi.errors import EnvError
from hemi.procmgr import cmdui as module
from hemi.procmgr import keyfile
from hemi.procmgr.client import Client, Refused
from hemi.procmgr.loop import CommandError
from hemi.procmgr.messages import HEAD, MAGIC, Decoder, encode
from tests.procmgr.uikit import Leader, running
from tests.running import until


@pytest.fixture
def leader(tmp_path: Path) -> Iterator[Leader]:
    with running(tmp_path) as leader:
        yield leader


def dial(leader: Leader) -> socket.socket:
    host, _, port = leader.cmdui.address.rpartition(":")
    return socket.create_connection((host, int(port)), timeout=5)


def receive(sock: socket.socket) -> dict[str, Any] | None:
    """The next message; None at the end."""
    decoder = Decoder()
    while data := sock.recv(65536):
        messages = decoder.feed(data)
        if messages:
            return messages[0]
    return None


def greet(sock: socket.socket, key: str) -> dict[str, Any] | None:
    """Proves as an operator does."""
    mine = keyfile.nonce()
    sock.sendall(encode({"hello": mine}))
    challenge = receive(sock)
    assert challenge is not None
    sock.sendall(encode({"proof": keyfile.prove(key, "operator", mine, challenge["nonce"])}))
    return receive(sock)


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


# Strangers


def test_a_wrong_key_is_refused_and_told_once(leader: Leader) -> None:
    for _ in range(3):
        with dial(leader) as sock:
            assert greet(sock, "0" * 64) == {"error": "wrong key", "details": []}
            assert receive(sock) is None
    assert leader.log.lines.count("cmdui: somebody with a wrong key was turned away") == 1


def test_a_proof_is_good_for_one_connection(leader: Leader) -> None:
    mine = keyfile.nonce()
    with dial(leader) as first, dial(leader) as second:
        first.sendall(encode({"hello": mine}))
        challenge = receive(first)
        second.sendall(encode({"hello": mine}))
        assert receive(second) is not None
        assert challenge is not None
        proof = keyfile.prove(leader.cmdui.key, "operator", mine, challenge["nonce"])
        second.sendall(encode({"proof": proof}))
        assert receive(second) == {"error": "wrong key", "details": []}


def test_the_leader_s_own_proof_opens_nothing(leader: Leader) -> None:
    with dial(leader) as sock:
        sock.sendall(encode({"hello": keyfile.nonce()}))
        challenge = receive(sock)
        assert challenge is not None
        sock.sendall(encode({"proof": challenge["proof"]}))
        assert receive(sock) == {"error": "wrong key", "details": []}


def test_who_has_not_proved_cannot_call(leader: Leader) -> None:
    with dial(leader) as sock:
        sock.sendall(encode({"call": "release", "args": {}}))
        answer = receive(sock)
        assert answer is not None
        assert "goroxctl" in answer["error"]
    assert not leader.released


def test_a_client_does_not_trust_a_leader_without_the_key(leader: Leader) -> None:
    with pytest.raises(EnvError, match="does not know the key"):
        Client.connect(leader.cmdui.address, "f" * 64)


def test_large_greetings_are_cut(leader: Leader) -> None:
    with dial(leader) as sock:
        sock.sendall(HEAD.pack(MAGIC, 1 << 20))
        assert receive(sock) is None


def test_a_browser_is_turned_away_by_its_first_bytes(leader: Leader) -> None:
    with dial(leader) as sock:
        sock.sendall(b"POST / HTTP/1.1\r\nHost: 127.0.0.1:9527\r\n\r\n")
        assert receive(sock) is None


def test_silence_ends_and_a_flood_of_strangers_locks_nobody_out(
    leader: Leader, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "PATIENCE", 0.3)
    crowd = [dial(leader) for _ in range(module.MOST_STRANGERS * 2)]
    with leader.connect() as client:
        assert client.call("echo") == {}
    assert len(leader.cmdui.strangers) <= module.MOST_STRANGERS
    assert until(lambda: not leader.cmdui.strangers, 5)
    for sock in crowd:
        sock.close()


def test_the_number_of_operators_is_limited(leader: Leader, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST_OPERATORS", 2)
    with leader.connect(), leader.connect(), pytest.raises(Refused, match="2 operators already"):
        leader.connect()


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
WORDS = st.sampled_from(["hello", "proof", "call", "tell", "args", "answer", "progress"])
MESSAGES = st.dictionaries(WORDS, JSON | st.sampled_from(["echo", "fail", "x" * 40]), max_size=4).map(encode)
PIECES = MESSAGES | st.binary(max_size=60) | st.sampled_from([MAGIC, HEAD.pack(MAGIC, 2), b"[]", b"{}"])


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(pieces=st.lists(PIECES, max_size=6), proved=st.booleans())
def test_nothing_that_is_sent_harms_the_leader(leader: Leader, pieces: list[bytes], proved: bool) -> None:
    with dial(leader) as sock:
        if proved:
            welcome = greet(sock, leader.cmdui.key)
            assert welcome is not None
        try:
            for piece in pieces:
                sock.sendall(piece)
            sock.shutdown(socket.SHUT_WR)
            while sock.recv(65536):
                pass
        except OSError:
            pass
    with leader.connect() as client:
        assert client.call("echo", {"a": 1}) == {"a": 1}
    assert not leader.complaints


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
