"""Row 21: other users of the machine, browsers and strangers at the channels of the leader, cmdui and admConn."""

from __future__ import annotations

import os
import random
import socket
import stat
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hemi.binding import ListenOptions, adjust, bind, inode_of, resolve
from hemi.errors import EnvError
from hemi.procmgr import cmdui as module
from hemi.procmgr import keyfile
from hemi.procmgr.client import Client, Refused
from hemi.procmgr.messages import HEAD, MAGIC, encode
from tests.processes.leaderkit import CONFIG
from tests.processes.leaderkit import Leader as LeaderProcess
from tests.procmgr.uikit import Leader, dial, greet, receive, running
from tests.running import until


@pytest.fixture
def leader(tmp_path: Path) -> Iterator[Leader]:
    with running(tmp_path) as leader:
        yield leader


# cmdui


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
        told = receive(sock)
        assert told and told["error"] == "a message must not be larger than 4096 bytes, this one has 1048576"
        assert receive(sock) is None


def test_a_browser_is_turned_away_by_its_first_bytes(leader: Leader) -> None:
    with dial(leader) as sock:
        sock.sendall(b"POST / HTTP/1.1\r\nHost: 127.0.0.1:9527\r\n\r\n")
        assert receive(sock) == {"error": "this is no message of gorox: use goroxctl", "details": []}
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


# Both, of a leader with a worker


@pytest.fixture
def instance(tmp_path: Path) -> Iterator[LeaderProcess]:
    process = LeaderProcess(tmp_path, CONFIG, "--cmdui", "127.0.0.1:0")
    yield process
    process.kill()


def doors(instance: LeaderProcess) -> dict[str, tuple[str, int]]:
    """The addresses of cmdui and admConn: what the leader listens on, besides for the world."""
    var_dir = instance.folder / "data" / "var"
    host, _, port = (var_dir / keyfile.TARGET_NAME).read_text().strip().rpartition(":")
    found = {
        one.laddr
        for one in psutil.Process(instance.process.pid).net_connections("tcp")
        if one.status == psutil.CONN_LISTEN
    }
    web = int(instance.address.rpartition(":")[2])
    (adm,) = [where for where in found if where.port not in (web, int(port))]
    assert adm.ip == "127.0.0.1", "no other machine can reach it"
    return {"cmdui": (host, int(port)), "admConn": (adm.ip, adm.port)}


def garbage(rng: random.Random) -> bytes:
    """A few bytes, frames, or frames with something in them that a worker or an operator would send."""
    kind = rng.randrange(4)
    if kind == 0:
        return rng.randbytes(rng.randrange(1, 200))
    if kind == 1:
        return HEAD.pack(MAGIC, rng.choice((0, 1, 4096, 1 << 20, (1 << 32) - 1))) + rng.randbytes(
            rng.randrange(50)
        )
    words = ["hello", "proof", "call", "tell", "event", "answer", "order", "args", "ready", "stop"]
    message = {
        rng.choice(words): rng.choice([*words, 1, None, {"stop": 1}, ["x"] * 9])
        for _ in range(rng.randrange(4))
    }
    return encode(message) * rng.randrange(1, 3) if kind == 2 else encode(message)[: rng.randrange(1, 20)]


@pytest.mark.parametrize("channel", ["cmdui", "admConn"])
def test_garbage_leaves_the_leader_untouched(instance: LeaderProcess, channel: str) -> None:
    rng = random.Random(21)
    where = doors(instance)[channel]
    workers = instance.wait_workers(1)
    for _ in range(150):
        with socket.create_connection(where, timeout=10) as sock:
            try:
                for _ in range(rng.randrange(1, 4)):
                    sock.sendall(garbage(rng))
                if rng.randrange(2):
                    sock.shutdown(socket.SHUT_WR)
                    while sock.recv(65536):
                        pass
            except OSError:  # it has closed, which is right
                pass
    assert instance.fetch() == "first"
    assert instance.workers() == workers
    assert "Traceback" not in instance.log()
    assert instance.end() == 0


def test_a_worker_s_key_opens_nothing_a_second_time_and_none_can_be_guessed(instance: LeaderProcess) -> None:
    where = doors(instance)["admConn"]
    for shown in ("", "x" * 32, "0" * 4000, None, 7, ["key"]):
        with socket.create_connection(where, timeout=10) as sock:
            sock.sendall(encode({"hello": shown}) + encode({"event": "ready", "lines": [], "keys": []}))
            try:
                assert sock.recv(100) == b""
            except ConnectionResetError:
                pass
    assert len(instance.wait_workers(1)) == 1


def test_nobody_else_can_read_what_opens_the_door(instance: LeaderProcess) -> None:
    var_dir = instance.folder / "data" / "var"
    key = var_dir / keyfile.KEY_NAME
    assert stat.S_IMODE(os.stat(key).st_mode) == 0o600
    pids = [instance.process.pid, *instance.wait_workers(1)]
    for pid in pids:
        told = (Path(f"/proc/{pid}/cmdline").read_bytes(), Path(f"/proc/{pid}/environ").read_bytes())
        assert all(key.read_bytes().strip() not in text for text in told)
    assert key.read_text().strip() not in instance.log()


# Files of listening sockets


def test_no_other_file_in_the_place_of_a_socket_is_changed(tmp_path: Path) -> None:
    """The leader may be root, and the folder of the socket the workers' user's, whom somebody has broken into."""
    path, other = tmp_path / "s", tmp_path / "precious"
    other.touch(0o600)
    sock = bind(resolve("", 0, str(path)), ListenOptions())
    inode = inode_of(str(path))
    path.unlink()
    new = ListenOptions(backlog=5, uds_mode=0o666)
    with pytest.raises(FileNotFoundError):
        adjust(sock, str(path), inode, ListenOptions(), new)
    path.symlink_to(other)
    with pytest.raises(OSError, match="another file is in the place"):
        adjust(sock, str(path), inode, ListenOptions(), new)
    path.unlink()
    another = bind(resolve("", 0, str(path)), ListenOptions(uds_mode=0o600))
    with pytest.raises(OSError, match="another file"):
        adjust(sock, str(path), inode, ListenOptions(), new)
    another.close()
    assert other.stat().st_mode & 0o777 == 0o600
    assert path.stat().st_mode & 0o777 == 0o600
    sock.close()
