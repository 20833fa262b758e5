"""The sockets that a leader owns: bound once, handed on, given back."""

from __future__ import annotations

import json
import os
import socket
from pathlib import Path

import pytest

from hemi.binding import ListenOptions, resolve
from hemi.procmgr.listening import Listening, key_text

OPTIONS = ListenOptions()


@pytest.fixture
def told() -> list[str]:
    return []


def port_of(sock: object) -> int:
    return int(sock.getsockname()[1])  # type: ignore[attr-defined]


def test_keys() -> None:
    assert key_text((":80", "")) == ":80"
    assert key_text(("127.0.0.1:0", "main")) == "127.0.0.1:0 of main"


def test_one_socket_a_key(told: list[str]) -> None:
    listening = Listening(told.append)
    target = resolve("127.0.0.1", 0, "")
    one = listening.get("a", "", target, OPTIONS)
    assert listening.get("a", "", target, OPTIONS) is one
    assert listening.get("b", "", target, OPTIONS) is not one
    assert repr(listening) == "<Listening a b>"
    listening.release(["a"])
    assert list(listening.held) == ["a"]
    assert told == ["b is given back"]
    listening.close()
    assert one.fileno() == -1


def test_an_address_in_use(told: list[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other, pytest.raises(OSError, match="in use"):
        Listening(told.append).get("a", "", resolve("127.0.0.1", port_of(other), ""), OPTIONS)


def test_files_of_sockets(told: list[str], tmp_path: Path) -> None:
    path = str(tmp_path / "sock")
    listening = Listening(told.append)
    listening.get("u", "", resolve("", 0, path), ListenOptions(uds_mode=0o600))
    assert os.stat(path).st_mode & 0o777 == 0o600
    listening.close(unlink=False)
    assert os.path.exists(path)
    listening = Listening(told.append)
    listening.get("u", "", resolve("", 0, path), OPTIONS)  # the stale one is replaced
    listening.close()
    assert not os.path.exists(path)


@pytest.mark.parametrize("by", ["address", "name"])
def test_sockets_from_outside(told: list[str], by: str) -> None:
    listening = Listening(told.append)
    outer = socket.create_server(("127.0.0.1", 0))
    port = port_of(outer)
    listening.adopt(outer.detach(), "main")
    wanted = resolve("127.0.0.1", port if by == "address" else 1, "")
    sock = listening.get("x", "main" if by == "name" else "other", wanted, OPTIONS)
    assert port_of(sock) == port
    assert told == ["x comes from outside"]
    assert not listening.adopted
    listening.close()


def mode_of(path: str) -> int:
    return os.stat(path).st_mode & 0o777


def test_options_of_sockets_that_stay(told: list[str], tmp_path: Path) -> None:
    paths = [str(tmp_path / name) for name in "ab"]
    listening = Listening(told.append)
    private, public = ListenOptions(uds_mode=0o600), ListenOptions(uds_mode=0o666, backlog=9)
    for path in paths:
        listening.get(path, "", resolve("", 0, path), private)
    listening.adjust({paths[0]: public, "another's": public})
    assert [mode_of(path) for path in paths] == [0o666, 0o600]
    os.unlink(paths[1])
    with pytest.raises(OSError, match=f"cannot change {paths[1]}: No such file"):
        listening.adjust({paths[0]: private, paths[1]: public})
    assert mode_of(paths[0]) == 0o666, "all or nothing"
    listening.adjust({paths[0]: private, paths[1]: private})
    assert mode_of(paths[0]) == 0o600
    listening.close()


def test_sockets_from_outside_stay_as_they_are(told: list[str], tmp_path: Path) -> None:
    path = str(tmp_path / "sock")
    listening = Listening(told.append)
    with socket.socket(socket.AF_UNIX) as outer:
        outer.bind(path)
        outer.listen()
        os.chmod(path, 0o620)
        listening.adopt(os.dup(outer.fileno()))
    listening.get("x", "", resolve("", 0, path), OPTIONS)
    listening.adjust({"x": ListenOptions(uds_mode=0o666)})
    assert mode_of(path) == 0o620
    heir = Listening(told.append)
    heir.restore(json.loads(json.dumps([{**each, "fd": os.dup(each["fd"])} for each in listening.export()])))
    heir.adjust({"x": ListenOptions(uds_mode=0o666)})
    assert mode_of(path) == 0o620
    heir.close()
    listening.close()


def test_uds_from_outside(told: list[str], tmp_path: Path) -> None:
    path = str(tmp_path / "sock")
    listening = Listening(told.append)
    with socket.socket(socket.AF_UNIX) as outer:
        outer.bind(path)
        outer.listen()
        listening.adopt(os.dup(outer.fileno()))
    listening.get("x", "", resolve("", 0, path), OPTIONS)
    listening.close()
    assert os.path.exists(path)  # whoever made it removes it


def test_what_does_not_listen_is_refused(told: list[str]) -> None:
    with socket.socket() as idle, pytest.raises(OSError, match="does not listen"):
        Listening(told.append).adopt(idle.fileno())


def test_what_another_leader_takes_over(told: list[str], tmp_path: Path) -> None:
    old, new = Listening(told.append), Listening(told.append)
    path = str(tmp_path / "sock")
    port = port_of(old.get("t", "", resolve("127.0.0.1", 0, ""), OPTIONS))
    old.get("u", "", resolve("", 0, path), OPTIONS)
    exported = [{**each, "fd": os.dup(each["fd"])} for each in old.export()]  # as exec does
    new.restore(json.loads(json.dumps(exported)))
    old.close(unlink=False)
    new.adjust({"u": ListenOptions(uds_mode=0o640)})
    assert mode_of(path) == 0o640
    new.release([])
    assert set(new.held) == {"t", "u"}, "nothing is given back that may have to be left to the other leader"
    new.take_over()
    assert port_of(new.held["t"].sock) == port
    with socket.create_connection(("127.0.0.1", port), 5):
        pass
    new.close()
    assert not os.path.exists(path)


def test_a_leader_that_fails_leaves_the_files_to_the_other(told: list[str], tmp_path: Path) -> None:
    old, new = Listening(told.append), Listening(told.append)
    paths = [str(tmp_path / name) for name in "ab"]
    old.get("a", "", resolve("", 0, paths[0]), OPTIONS)
    new.restore([{**each, "fd": os.dup(each["fd"])} for each in old.export()])
    new.get("b", "", resolve("", 0, paths[1]), OPTIONS)
    new.close()
    assert [os.path.exists(path) for path in paths] == [True, False]
    old.close()
    assert not os.path.exists(paths[0])


def test_each_worker_has_a_socket_for_the_datagrams_of_an_address(told: list[str]) -> None:
    listening = Listening(told.append)
    target = resolve("127.0.0.1", 0, "", datagram=True)
    first, second = (
        listening.get(
            f"udp 127.0.0.1:0 #{share} of dns", "dns", target, ListenOptions(datagram=True, share=share)
        )
        for share in (1, 2)
    )
    assert first is not second and first.getsockname() == second.getsockname()
    taken = resolve("127.0.0.1", port_of(first), "", datagram=True)
    with pytest.raises(OSError, match="in use"):  # by a stranger, for all it knows
        Listening(told.append).get("udp a #1", "", taken, ListenOptions(datagram=True, share=1))
    exported = listening.export()
    for each in exported:
        each["fd"] = os.dup(each["fd"])
    heir = Listening(told.append)
    heir.restore(exported)
    assert [held.sock.type for held in heir.held.values()] == [socket.SOCK_DGRAM] * 2
    heir.close(unlink=False)
    listening.release(["udp 127.0.0.1:0 #1 of dns"])
    assert second.fileno() == -1
    listening.close()


def test_datagram_sockets_from_outside(told: list[str]) -> None:
    listening = Listening(told.append)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(("127.0.0.1", 0))
        name = sock.getsockname()
        listening.adopt(os.dup(sock.fileno()), "dns")
    assert listening._adopt("dns", resolve("127.0.0.1", 0, "")) is None  # that is for connections
    got = listening.get("k", "dns", resolve("127.0.0.1", 0, "", datagram=True), ListenOptions(datagram=True))
    assert got.getsockname() == name and got.type == socket.SOCK_DGRAM
    listening.close()
